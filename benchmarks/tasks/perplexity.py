"""Texts whose log-likelihood is measured, window by window: `perplexity:FILE`.

A window is a question with one option, which continues the text before it. It is cut in bytes, not
in tokens, so that all models read the same windows and can be compared on them. A text that fits
into one is measured as lm-eval's `loglikelihood_rolling` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.scoring.metric_registry import CONTEXT, STRIDE
from benchmarks.scoring.scorer import PERPLEXITY
from benchmarks.tasks.base import NoSplit, Task, TaskRequest, with_ids, zero_shot_task
from domainlift.errors import Malformed
from domainlift.fields import optional
from domainlift.row_files import file_rows
from domainlift.types import Question
from engines.base import Mode

#: Endings of files with a text in each row, under `text`; any other file is one text.
_ROWS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def load_texts(request: TaskRequest) -> Task:
    """Load the texts of a file as windows; those of one text are one cluster."""
    if request.split != "test":
        raise NoSplit(f"`{request.name}` has no {request.split} split", "use the split test")
    path = Path(request.rest)
    texts = [(domain or path.stem, text) for domain, text in _texts(path) if text]
    if not texts:
        raise Malformed(path, "holds no text", hint='a row is {"text": "…"}')
    domain = request.domain or texts[0][0]
    questions = with_ids(
        path.name,
        (
            Question(
                *("", request.domain or own, request.name, before, (text,), 0),
                cluster=str(number) if len(texts) > 1 else "",
            )
            for number, (own, whole) in enumerate(texts, 1)
            for before, text in windows(whole)
        ),
    )
    return zero_shot_task(
        request.name, domain, questions, Mode.CLOZE, prerendered=True, scorer=PERPLEXITY
    )


def windows(text: str) -> Iterator[tuple[str, str]]:
    """Yield (what comes before, what is measured); the latter make up the stripped text.

    Both end before white space where there is some, and have at most so many bytes.
    """
    text = text.strip()
    start = 0
    while start < len(text):
        end = _cut(text, start)
        yield _last(text[:start]), text[start:end]
        start = end


def _cut(text: str, start: int) -> int:
    """Where the window that begins here ends."""
    piece = text[start : start + STRIDE].encode("utf-8", "replace")[:STRIDE]
    end = start + len(piece.decode("utf-8", "ignore"))
    if end >= len(text):
        return len(text)
    space = next((at for at in range(end, start, -1) if text[at].isspace()), None)
    # Before the first of several blanks, so that none stands at the end of a prompt.
    while space is not None and space > start and text[space - 1].isspace():
        space -= 1
    return space if space is not None and space > start else end


def _last(text: str) -> str:
    """The end of a text, from a word on."""
    end = text[-CONTEXT:].encode("utf-8", "replace")[-CONTEXT:]
    kept = end.decode("utf-8", "ignore")
    if len(kept) == len(text):
        return kept
    _, blank, rest = kept.partition(" ")
    return rest if blank and rest else kept


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Domain and text of each row, or the one text of the file."""
    if path.suffix.lower() in _ROWS:
        for row in file_rows(path):
            yield optional(row.fields, "domain"), optional(row.fields, "text").strip()
        return
    try:
        yield "", path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(path, f"cannot be read as text ({error})") from None
