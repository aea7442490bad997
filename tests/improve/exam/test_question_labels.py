"""The filter of written questions against labels by hand, with the figures that the docs report.

Every question was read against its passage before the filter saw it. The rules were written and
their limits fitted on the half `fit`; `held out` are other passages. A `good` question is
supported, asks for a fact and stands alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainlift.stats.intervals import wilson
from domainlift.types import Passage
from improve.exam.question_faults import WrittenPair, question_fault

FILE = Path(__file__).with_name("question_labels.jsonl")
LINES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
PASSAGES = {
    line["passage"]: Passage(line["text"], line["source"], line["passage"])
    for line in LINES
    if "passage" in line
}
LABELLED = [line for line in LINES if "question" in line]


def counts(half: str) -> tuple[int, int, int]:
    """Good ones that are kept, all that are kept, and all good ones."""
    judged = [
        (
            line["label"] == "good",
            line["whole"]
            and not question_fault(
                WrittenPair(line["question"], line["answer"]), PASSAGES[line["of"]]
            ),
        )
        for line in LABELLED
        if line["half"] == half
    ]
    kept = [good for good, is_kept in judged if is_kept]
    return sum(kept), len(kept), sum(good for good, _ in judged)


def test_the_halves_share_no_passage() -> None:
    fit, held_out = (
        {line["of"] for line in LABELLED if line["half"] == half} for half in ("fit", "held out")
    )
    assert not fit & held_out


@pytest.mark.parametrize(("half", "expected"), [("held out", (7, 9, 12)), ("fit", (15, 19, 21))])
def test_precision_and_recall_are_those_that_the_docs_report(
    half: str, expected: tuple[int, int, int]
) -> None:
    good, kept, all_good = counts(half)
    assert (good, kept, all_good) == expected
    page = (Path(__file__).parents[3] / "docs" / "improve.md").read_text(encoding="utf-8")
    for part, whole in ((good, kept), (good, all_good)):
        around = wilson(part, whole)
        said = f"{part / whole:.2f} [{around.low:.2f}, {around.high:.2f}] ({part} of {whole})"
        assert said.replace("0.", ".") in page, said
