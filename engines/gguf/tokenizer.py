"""Tokenizer and chat template of a GGUF file, with the calls of transformers' tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.gguf.model import GgufModel


class GgufTokenizer:
    """What `engines.local.tokenization.Encoder` needs of a tokenizer."""

    def __init__(self, model: GgufModel) -> None:
        self._model = model
        self.chat_template = model.chat_template
        self.bos_token_id = _token(model.bos)
        self.eos_token_id = _token(model.eos)

    def __call__(
        self, text: str | Sequence[str], *, add_special_tokens: bool = True, verbose: bool = True
    ) -> dict[str, Any]:
        """`input_ids` of one text, or of each of several."""
        if isinstance(text, str):
            return {"input_ids": list(self._model.tokenize(text, special=add_special_tokens))}
        return {
            "input_ids": [
                list(self._model.tokenize(each, special=add_special_tokens)) for each in text
            ]
        }

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens, without special ones."""
        return self._model.detokenize(tokens)

    def raw(self, token: int) -> bytes:
        """The bytes of one token."""
        return self._model.raw(token)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The tokens that begin and end a text, as templates write them."""
        tokens = (("bos_token", self.bos_token_id), ("eos_token", self.eos_token_id))
        return {name: self.raw(token).decode() for name, token in tokens if token is not None}


def _token(found: int) -> int | None:
    return found if found >= 0 else None
