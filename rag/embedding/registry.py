"""Registry of embedding models: a name, and the model behind it.

all-MiniLM-L6-v2, org/name, a folder    sentence-transformers, in this process
ollama:NAME                             a model of a local Ollama
"""

from __future__ import annotations

from domainlift.errors import Misuse
from rag.base import Embedder
from rag.embedding.ollama import OllamaEmbedder
from rag.embedding.sentence import SentenceEmbedder

DEFAULT = "all-MiniLM-L6-v2"


def open_embedder(name: str) -> Embedder:
    """Find a model; its weights are loaded when something is embedded for the first time.

    Raises BenchError where it cannot be had, and Misuse where it must not be loaded.
    """
    if name == "onnx":  # of knowledge bases that an earlier version built
        hint = f"build the knowledge base anew: `bench kb build DOMAIN --embedder {DEFAULT}`"
        raise Misuse("the embedding model `onnx` is not offered any more", hint)
    if name.startswith("ollama:"):
        return OllamaEmbedder.find(name.removeprefix("ollama:"))
    return SentenceEmbedder.find(name)
