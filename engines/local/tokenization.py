"""Requests to tokens, and back to text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from engines.base import Mode, Prompt, Request
from engines.chat_template import ChatTemplate
from engines.local.prefix_tree import PromptItem, Tokens
from engines.thought_markers import TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Encoder:
    """Turns prompts and options into tokens as the model is to see them.

    A prompt with its option is always tokenised as one text, since pieces may join across the
    seam; only where the last line of the prompt is shown to stand for the whole is the rest of
    the prompt left out of the work.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self.chat_template = ChatTemplate(tokenizer)
        self._continuations: dict[tuple[str, str], Tokens] = {}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer itself."""
        tokenizer: PreTrainedTokenizerBase = self._tokenizer
        return tokenizer

    @property
    def has_chat_template(self) -> bool:
        """Whether chat prompts can be rendered."""
        return self._tokenizer.chat_template is not None

    def items(self, requests: Sequence[Request]) -> list[PromptItem]:
        """One item per request, with the request's index as its key."""
        texts = [self._text(request) for request in requests]
        prompts = self.prompts(requests, texts)
        return [
            PromptItem(
                key, prompt, tuple(self._option(text, prompt, o, request.prompt) for o in options)
            )
            for key, (request, text, prompt) in enumerate(
                zip(requests, texts, prompts, strict=True)
            )
            for options in (request.options,)
        ]

    def prompts(
        self, requests: Sequence[Request], texts: Sequence[str] | None = None
    ) -> list[Tokens]:
        """The prompts' tokens; an empty prompt becomes the token that begins or ends a text."""
        if texts is None:
            texts = [self._text(request) for request in requests]
        trimmed = [text.rstrip(" ") for text in texts]
        encoded: list[Tokens] = [()] * len(texts)
        for chat in (False, True):
            chosen = [i for i, r in enumerate(requests) if bool(r.prompt.messages) is chat]
            if chosen:
                rows = self._tokenizer(
                    [trimmed[i] for i in chosen], add_special_tokens=not chat, verbose=False
                )["input_ids"]
                for i, row in zip(chosen, rows, strict=True):
                    encoded[i] = tuple(row) or (self._first_token(),)
        return encoded

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, without special tokens but for those that mark a thought."""
        text, start = "", 0
        for at, token in enumerate(tokens):
            if token in self._thought_tokens:
                text += self._decoded(tokens[start:at]) + self._thought_tokens[token]
                start = at + 1
        return text + self._decoded(tokens[start:])

    def raw(self, token: int) -> bytes:
        """The bytes of one token; of a special one its name."""
        own = getattr(self._tokenizer, "raw", None)  # llama.cpp's vocabulary knows them
        return bytes(own(token)) if own is not None else _raw(self._tokenizer, token)

    def opened_thought(self, request: Request) -> str:
        """The mark with which a chat's prompt begins the thought of the reply, "" for none."""
        return self.chat_template.traits.opens if request.prompt.messages else ""

    @cached_property
    def _thought_tokens(self) -> dict[int, str]:
        """Special tokens that mark thoughts: without them, a thought would read as an answer."""
        ids = {mark: self._encode(mark) for mark in TOKENS}
        # What is one token for several marks is the unknown one.
        uses = Counter(ids.values())
        return {
            own[0]: mark
            for mark, own in ids.items()
            if len(own) == 1 and uses[own] == 1 and not self._decoded(own)
        }

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def count(self, text: str) -> int:
        """How many tokens a text has by itself, special ones left out."""
        return len(self._encode(text))

    def _text(self, request: Request) -> str:
        prompt = request.prompt
        if not prompt.messages:
            return prompt.text
        if not self.has_chat_template:
            raise Misuse(
                "the model's tokenizer has no chat template",
                "score it as plain text: `--no-chat`",
            )
        text = self.chat_template.prompt(prompt.messages, list(prompt.tools) or None)
        return text if request.mode is Mode.GENERATE else self.chat_template.after_thought(text)

    def _option(self, text: str, prompt: Tokens, option: str, source: Prompt) -> Tokens:
        """The tokens that the option adds to the prompt."""
        trimmed = text.rstrip(" ")
        # Spaces at the end of a prompt belong to the option's first token in nearly every
        # vocabulary, so they are moved there.
        option = text[len(trimmed) :] + option
        if not trimmed:
            return self._encode(option)
        line = trimmed[max(trimmed.rfind("\n"), 0) :]
        tail = self._encode(line)
        if tail and prompt[-len(tail) :] == tail:
            key = (line, option)
            if key not in self._continuations:
                self._continuations[key] = self._after(tail, self._encode(line + option), option)
            return self._continuations[key]
        special = not source.messages
        whole = self._tokenizer(trimmed + option, add_special_tokens=special)["input_ids"]
        return self._after(prompt, tuple(whole), option)

    def _after(self, prompt: Tokens, whole: Tokens, option: str) -> Tokens:
        """What the whole has after the prompt; the option's own tokens where pieces joined."""
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        return tokens_within(self._tokenizer, option)

    def _encode(self, text: str) -> Tokens:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _first_token(self) -> int:
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise Misuse("an empty prompt, and a tokenizer without a token to begin with")


def _raw(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token's piece stands for, in byte-level vocabularies and in others."""
    piece = str(tokenizer.convert_ids_to_tokens(token))
    if token in tokenizer.all_special_ids:
        return piece.encode()
    if "ByteLevel" in repr(getattr(tokenizer.backend_tokenizer, "decoder", None)):
        return bytes(_byte_of()[character] for character in piece)
    byte = re.fullmatch("<0x([0-9A-F]{2})>", piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace("▁", " ").encode()


@cache
def _byte_of() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


def tokens_within(tokenizer: Any, text: str) -> Tokens:
    """The tokens of a text that goes on another one, without the blank that begins texts.

    They stand for an answer whose first piece would join with the end of its prompt.
    """
    seam = tokenizer("\n", add_special_tokens=False)["input_ids"]
    whole = tokenizer("\n" + text, add_special_tokens=False)["input_ids"]
    if whole[: len(seam)] == seam:
        return tuple(whole[len(seam) :])
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
