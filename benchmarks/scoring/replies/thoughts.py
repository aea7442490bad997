"""Thoughts in replies: cut off before anything is read, and kept beside the reply."""

from __future__ import annotations

import re
from dataclasses import replace

from engines.base import Answer
from engines.thought_markers import CLOSING, OPENING, SILENT

# A thought in a block that is fenced, or folded, under its name.
_NAMED = r"(?:think(?:ing)?|thoughts?|reasoning)"
_BLOCK = re.compile(
    rf"\A\s*(?:```{_NAMED}\n(.*?)\n```|<details\b[^<>\n]{{0,80}}>\s*"
    rf"<summary>[^<\n]{{0,40}}\b{_NAMED}\b[^<\n]{{0,40}}</summary>(.*?)</details>)",
    re.IGNORECASE | re.DOTALL,
)


def separate_thought(answer: Answer) -> Answer:
    """Move a thought from the text of a reply to `thought`.

    What was never closed leaves no text: a thought that breaks off is not an answer.
    """
    if not answer.text:
        return answer
    said, thought = split_thought(answer.text)
    if thought is None:
        return answer
    parts = filter(None, (answer.thought, thought.strip()))
    return replace(answer, text=said, thought="\n\n".join(parts) or None)


def split_thought(text: str) -> tuple[str, str | None]:
    """The answer and the thought of a reply; None where there is no mark of one.

    Marks do not nest, so one inside a thought is a part of it; and one that closes what was not
    opened ends a thought that the prompt began.
    """
    text = _BLOCK.sub(r"<think>\1\2</think>", text)
    marks = sorted(
        [(m.start(), m.end(), True) for m in OPENING.finditer(text)]
        + [(m.start(), m.end(), False) for m in CLOSING.finditer(text) if _ends(m[0], text)]
    )
    if not marks:
        return text, None
    said: list[str] = []
    thoughts: list[str] = []
    thinks, at = False, 0
    for start, end, opens in marks:
        if start < at or (opens and thinks):
            continue
        if opens:
            said.append(text[at:start])
        else:
            thoughts += [*([] if thinks else said), text[at:start]]
            said = said if thinks else []
        thinks, at = opens, end
    if thinks:
        return "", text
    rest = SILENT.sub("", "".join([*said, text[at:]]))
    return rest.strip(), SILENT.sub("", "".join(thoughts))


def _ends(mark: str, text: str) -> bool:
    """Without its special tokens, only gpt-oss ends a thought by a word."""
    bare = mark[:1].lower() == "a"
    return not bare or OPENING.match(text) is not None
