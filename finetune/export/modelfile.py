"""Modelfile of Ollama: chat template and stop strings.

Ollama guesses a template where none is given, and a wrong guess costs a model its answers without
an error. So the template is always written, and only for a known family of chat templates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domainlift.errors import Misuse

_SYSTEM, _USER, _ASSISTANT = "<<system>>", "<<user>>", "<<assistant>>"


@dataclass(frozen=True)
class Family:
    """A chat format: Ollama's template, one turn, the start of an answer, and its stop strings."""

    template: str
    turn: str
    opening: str
    stops: tuple[str, ...]


FAMILIES = {
    "chatml": Family(
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n",
        "<|im_start|>{role}\n{content}<|im_end|>\n",
        "<|im_start|>assistant\n",
        ("<|im_start|>", "<|im_end|>"),
    ),
}
#: A model without a chat template continues text.
PLAIN = Family("{{ .Prompt }}", "", "", ())


@dataclass(frozen=True)
class Chat:
    """A model's chat format and default system message."""

    family: Family
    system: str = ""


def chat_of(tokenizer: Any) -> Chat:
    """Find a tokenizer's family by what it writes; Misuse where it is of none."""
    if tokenizer.chat_template is None:
        return Chat(PLAIN)
    for family in FAMILIES.values():
        talk = [("system", _SYSTEM), ("user", _USER), ("assistant", _ASSISTANT), ("user", _USER)]
        if _written(tokenizer, talk) != _write(family, talk):
            continue
        alone = [("user", _USER)]
        before, found, _ = _written(tokenizer, alone).partition(_write(family, alone))
        if found and not before:
            return Chat(family)
        head, _, tail = family.turn.format(role="system", content=_SYSTEM).partition(_SYSTEM)
        if found and before.startswith(head) and before.endswith(tail):
            return Chat(family, before.removeprefix(head).removesuffix(tail))
    raise Misuse(
        "the base model's chat template is of no family that can be written for Ollama",
        f"known: {', '.join(FAMILIES)}; export with `--to gguf` and write the Modelfile yourself",
    )


def write_modelfile(chat: Chat, source: str, end: str | None) -> str:
    """The text of a Modelfile; `end` is the token that ends a text."""
    stops = dict.fromkeys([*chat.family.stops, *([end] if end is not None else [])])
    lines = [f"FROM {source}", f'TEMPLATE """{chat.family.template}"""']
    if chat.system:
        lines.append(f'SYSTEM """{chat.system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    return "\n".join(lines) + "\n"


def _written(tokenizer: Any, turns: list[tuple[str, str]]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _write(family: Family, turns: list[tuple[str, str]]) -> str:
    parts = [family.turn.format(role=role, content=content) for role, content in turns]
    return "".join(parts) + family.opening
