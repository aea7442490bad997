"""Embedding models of sentence-transformers, in this process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from domainlift.activity import activity
from domainlift.errors import BenchError
from rag.base import Notify, Vectors
from rag.embedding import weights
from rag.embedding.bert import Bert, open_bert
from rag.embedding.tokens import ending, load_tokenizer

# Padded tokens that go through the model at once. More does not help two cores, and a batch of
# texts of one length has next to no padding.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536, "mps": 16_384}
# Texts that are embedded without torch where it was not loaded yet, and padded tokens that one
# thread embeds at least as fast as two.
_FEW = 4
_FEW_TOKENS = 1024


class SentenceEmbedder:
    """A model of sentence-transformers; the weights are loaded when first needed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.digest = weights.weights_digest(folder)
        self.max_tokens = weights.max_tokens(folder)
        self.folder = folder
        self._tokenizer = load_tokenizer(folder)
        self._model: Any = None

    @classmethod
    def find(cls, name: str) -> SentenceEmbedder:
        """Find the files of a model by its name or folder."""
        full = weights.full_name(name)
        return cls(full.removeprefix("sentence-transformers/"), weights.find_folder(full))

    def count(self, text: str) -> int:
        """Count tokens, special ones included."""
        return len(self._tokenizer.encode(text).ids)

    def encode(self, texts: Sequence[str], notify: Notify | None = None) -> Vectors:
        """Embed documents, [texts, dimensions]."""
        return self._encode(texts, "document", notify)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; of one beyond the limit, its end."""
        prompt = self._prompt("query")
        limit = self.max_tokens - len(self._tokenizer.encode(prompt).ids)
        cut = [ending(text, self.count, limit) for text in texts]
        small = self._small if self._model is None and 0 < len(texts) <= _FEW else None
        if small is None:
            return self._encode(cut, "query", None)
        encoded = self._tokenizer.encode_batch([prompt + text for text in cut])
        return small.encode([each.ids for each in encoded])

    @cached_property
    def _small(self) -> Bert | None:
        return open_bert(self.folder)

    def _encode(self, texts: Sequence[str], kind: str, notify: Notify | None) -> Vectors:
        import torch

        model, prompt = self._loaded(), self._prompt(kind)
        encoded = self._tokenizer.encode_batch([prompt + text for text in texts])
        lengths = [len(e.ids) for e in encoded]
        self._refuse_long(texts, lengths)
        vectors = np.empty((len(texts), model.get_embedding_dimension()), dtype=np.float32)
        done = 0
        budget = _BATCH_TOKENS.get(model.device.type, _BATCH_TOKENS["cpu"])
        with torch.inference_mode(), few_threads(model.device.type, sum(lengths)):
            for rows in batches(lengths, budget):
                ids, mask = self._padded([encoded[row].ids for row in rows])
                features = {"input_ids": ids.to(model.device), "attention_mask": mask}
                features["attention_mask"] = mask.to(model.device)
                made = model(features)["sentence_embedding"].float()
                vectors[rows] = torch.nn.functional.normalize(made, dim=1).cpu().numpy()
                done += len(rows)
                if notify is not None:
                    notify(done, len(texts))
        return vectors

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        import torch

        width = max(map(len, ids))
        padding = self._model.tokenizer.pad_token_id or 0
        rows = [[*row, *[padding] * (width - len(row))] for row in ids]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
        return torch.tensor(rows), torch.tensor(mask)

    def _refuse_long(self, texts: Sequence[str], lengths: Sequence[int]) -> None:
        for text, length in zip(texts, lengths, strict=True):
            if length > self.max_tokens:
                raise BenchError(
                    f"a text of {length} tokens exceeds the {self.max_tokens} of `{self.name}`: "
                    f"`{text[:60]}…`",
                    "make smaller chunks: `--chunk-tokens`",
                )

    def _prompt(self, kind: str) -> str:
        """Prefix that some models want before a text ("query: "), from their configuration."""
        path = self.folder / "config_sentence_transformers.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return str((settings.get("prompts") or {}).get(kind) or "")

    def _loaded(self) -> Any:
        if self._model is None:
            self._model = _load(self.folder)
        return self._model


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows in batches of like length, the longest first; width times rows stays in the budget.

    The longest first, so that what does not fit into memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


@contextmanager
def few_threads(device: str, tokens: int) -> Iterator[None]:
    """One thread for a few tokens: handing them out costs more than it gives on busy cores."""
    import torch

    before = torch.get_num_threads()
    if device == "cpu" and tokens <= _FEW_TOKENS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _load(folder: Path) -> Any:
    """Load a model once per process."""
    if find_spec("sentence_transformers") is None:
        raise BenchError(
            "this embedding model needs sentence-transformers",
            'install it: `pip install "domainlift[local]"`, or use `--embedder ollama:NAME`',
        )
    with activity("loading the embedding model"):
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        transformers_logging.disable_progress_bar()
        return SentenceTransformer(
            str(folder),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        ).eval()
