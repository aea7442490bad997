"""Embedding models of a local Ollama, over `/api/embed`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from domainlift.errors import BenchError, EngineDown
from engines.base import estimate_tokens
from engines.servers.http import Server
from engines.servers.ollama_model import OllamaModel, look_up, parse_host
from engines.servers.responses import Failure, get_path
from rag.base import Notify, Vectors
from rag.embedding.tokens import ending

_BATCH = 32
_TIMEOUT = 300.0
_DEFAULT_CONTEXT = 512


class OllamaEmbedder:
    """Asks a server; the length of a text in tokens is estimated, and never too low for prose."""

    def __init__(self, server: Server, served: OllamaModel) -> None:
        self.name = f"ollama:{served.model}"
        self.digest = f"ollama-{served.digest[-16:]}"
        self.max_tokens = served.context if served.context is not None else _DEFAULT_CONTEXT
        self._model = served.model
        self._server = server

    @classmethod
    def find(cls, model: str, host: str | None = None) -> OllamaEmbedder:
        """Look a model up on the server that OLLAMA_HOST names."""
        url = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        server = Server(url, _TIMEOUT)
        try:
            return cls(server, look_up(server, model))
        except BenchError as error:
            server.close()
            if not isinstance(error, EngineDown):
                raise
            hint = (
                f"start it with `ollama serve` and `ollama pull {model}`, or leave `--embedder` out"
            )
            raise BenchError(error.what, hint) from error

    def count(self, text: str) -> int:
        """Estimate tokens, special ones included.

        The server has no endpoint that counts. What seems to fit does, but for long runs of signs
        and digits, which it is told to refuse instead of cutting them off.
        """
        return 2 + estimate_tokens(text)

    def encode(self, texts: Sequence[str], notify: Notify | None = None) -> Vectors:
        """Embed texts, [texts, dimensions]."""
        rows: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            rows += self._embed(texts[start : start + _BATCH])
            if notify is not None:
                notify(len(rows), len(texts))
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), -1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not lengths.all():
            raise BenchError(f"`{self.name}` returned vectors that are empty or not finite")
        unit: Vectors = (vectors / lengths).astype(np.float32)
        return unit

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; of one beyond the limit, its end."""
        return self.encode([ending(text, self.count, self.max_tokens) for text in texts])

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        body = {"model": self._model, "input": list(texts), "truncate": False}
        try:
            rows = get_path(self._server.post("/api/embed", body), "embeddings")
        except Failure as failure:
            raise BenchError(
                f"`{self.name}` at `{self._server.url}` cannot embed: {failure.what}",
                f"`ollama show {self._model}` tells whether it is an embedding model",
            ) from failure
        if not isinstance(rows, list) or len(rows) != len(texts):
            raise BenchError(
                f"`{self.name}` did not return a vector for each of {len(texts)} texts"
            )
        return rows
