"""GSM8K: school mathematics with a worked solution that ends in `#### number`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.tasks.base import Example, NoSplit, Task, TaskRequest, data_digest, with_ids
from benchmarks.tasks.hub_or_mirror import hub_split, mirror_file
from benchmarks.tasks.readers import jsonl_rows
from domainlift.errors import Malformed
from domainlift.types import Question, Split
from engines.base import Mode

HUB = "openai/gsm8k"
POOL = 8
STOP = ("Question:", "</s>", "<|im_end|>")
MAX_TOKENS = 256


def load_gsm8k(want: TaskRequest) -> Task:
    """Load the questions; the first training items are the pool of the few-shot block."""
    if want.split == "validation":
        raise NoSplit("`gsm8k` has no validation split", "use the split train or test")
    questions = tuple(example.question for example in _examples(want, want.split))
    examples = _examples(want, "train")[:POOL] if want.split == "test" else ()
    return Task(
        name=want.name,
        domain=want.domain,
        questions=questions,
        examples=examples,
        description="",
        mode=Mode.GENERATE,
        modes=frozenset({Mode.GENERATE}),
        shots=5 if examples else 0,
        digest=data_digest(questions, examples),
        stop=STOP,
        max_tokens=MAX_TOKENS,
    )


def final_number(solution: str) -> str:
    """Return the number after the last `####`, without thousands separators; "" if none."""
    _, mark, number = solution.rpartition("####")
    return number.strip().replace(",", "").removeprefix("$").rstrip(".") if mark else ""


def _examples(want: TaskRequest, split: Split) -> tuple[Example, ...]:
    rows = list(_rows(want.data, split))
    drafts = [
        Question("", want.domain, want.name, row["question"].strip(), (), number, split=split)
        for row, number in rows
    ]
    questions = with_ids(want.name, drafts)
    # The solution is kept raw, calculator marks included, as other harnesses show it.
    return tuple(Example(q, row["answer"]) for q, (row, _) in zip(questions, rows, strict=True))


def _rows(data: Path | None, split: Split) -> Iterator[tuple[dict[str, Any], str]]:
    layout = f"gsm8k/{split}.jsonl"
    path = mirror_file(data, "gsm8k", f"{split}.jsonl")
    if path is not None:
        return (_checked(path, line, row) for line, row in jsonl_rows(path))
    rows = hub_split(HUB, "main", split, layout=layout)
    return (_checked(Path(HUB), line, row) for line, row in enumerate(rows, start=1))


def _checked(path: Path, line: int, row: dict[str, Any]) -> tuple[dict[str, Any], str]:
    for key in ("question", "answer"):
        if not isinstance(row.get(key), str):
            raise Malformed(path, f"no text under `{key}`", line=line)
    number = final_number(row["answer"])
    if not number:
        raise Malformed(path, "answer does not end in `#### number`", line=line)
    return row, number
