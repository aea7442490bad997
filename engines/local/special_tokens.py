"""Special tokens that a tokenizer appends to every text: after a prompt they end it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domainlift.errors import Misuse

_PROBE = "a"


def stop_appending(tokenizer: Any) -> tuple[str, ...]:
    """Keep a tokenizer from appending special tokens, and return those that it appended.

    `LlamaTokenizer(add_eos_token=True)` saves such a tokenizer: with the end of the text before
    its answer a model sees nothing of the question. What stands before a text stays. Raises Misuse
    where the tokenizer cannot be kept from it.
    """
    bare = list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"])
    whole = list(tokenizer(_PROBE)["input_ids"])
    starts = [n for n in range(len(whole)) if whole[n : n + len(bare)] == bare]
    end = starts[0] + len(bare) if starts else len(whole)
    if end == len(whole):
        return ()
    before, appended = whole[: starts[0]], whole[end:]
    names = tuple(tokenizer.convert_ids_to_tokens(appended))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        starts_with = tokenizer.convert_ids_to_tokens(before)
        backend.post_processor = _prepending(dict(zip(starts_with, before, strict=True)))
    if list(tokenizer(_PROBE)["input_ids"]) != [*before, *bare]:
        what = f"the tokenizer appends {', '.join(f'`{name}`' for name in names)} to every prompt"
        raise Misuse(what, "save it anew with `add_eos_token=False`")
    return names


def appending_notes(appended: Sequence[str]) -> list[str]:
    """The sentence that says what a tokenizer was kept from appending; none for nothing."""
    ends = ", ".join(f"`{token}`" for token in appended)
    return [f"the tokenizer appends {ends} to every text; that is left out here"] if ends else []


def _prepending(tokens: dict[str, int]) -> Any:
    """What puts these tokens before a text, and nothing after it."""
    from tokenizers.processors import TemplateProcessing

    template = [*tokens, "$A"]
    return TemplateProcessing(
        single=template, pair=[*template, "$B"], special_tokens=list(tokens.items())
    )
