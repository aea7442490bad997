"""Reranker: a cross-encoder that reads question and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from domainlift.errors import BenchError
from rag.search.retrieval import Rerank


def open_reranker(name: str) -> Rerank:
    """Load a cross-encoder of sentence-transformers: a folder or a name on the hub."""
    if find_spec("sentence_transformers") is None:
        raise BenchError(
            "a reranker needs sentence-transformers",
            'install it: `pip install "domainlift[local]"`',
        )
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(name, trust_remote_code=False, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())[:160]
        raise BenchError(
            f"reranker `{name}` cannot be loaded: {first}",
            "check the name and the connection, or leave `--rerank` out",
        ) from error

    def score(pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        made = model.predict(list(pairs), show_progress_bar=False)
        return [float(value) for value in made]

    return score
