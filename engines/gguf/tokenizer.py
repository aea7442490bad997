"""Tokenizer and chat template of a GGUF file, with the calls of transformers' tokenizers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Misuse

if TYPE_CHECKING:
    from engines.gguf.model import GgufModel

Chat = Sequence[Mapping[str, str]]


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

    def apply_chat_template(
        self, chat: Chat, *, tokenize: bool = False, add_generation_prompt: bool = True
    ) -> str:
        """Render a chat by the file's template; Misuse where the template refuses it."""
        return self._template(chat, add_generation_prompt)

    def _template(self, chat: Chat, add_generation_prompt: bool) -> str:
        from jinja2.exceptions import TemplateError

        vocabulary = {
            name: self._model.piece(token)
            for name, token in (("bos_token", self.bos_token_id), ("eos_token", self.eos_token_id))
            if token is not None
        }
        try:
            return str(
                self._compiled.render(
                    messages=[dict(turn) for turn in chat],
                    add_generation_prompt=add_generation_prompt,
                    **vocabulary,
                )
            )
        except TemplateError as error:
            raise Misuse(
                f"the model's chat template refuses this chat: {error}",
                "score it as plain text: `--no-chat`",
            ) from error

    @cached_property
    def _compiled(self) -> Any:
        """The template in a sandbox, with the functions that templates of the hub may call."""
        from jinja2.exceptions import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            return environment.from_string(self.chat_template or "")
        except TemplateError as error:
            raise BenchError(
                f"the file's chat template cannot be read: {error}",
                "score it as plain text: `--no-chat`",
            ) from error


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _token(found: int) -> int | None:
    return found if found >= 0 else None
