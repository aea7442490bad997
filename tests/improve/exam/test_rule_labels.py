"""Questions made by rules against a person's labels: right, alone understandable, one right option.

The labels name questions by id: the texts of the mirror are not kept here, and their part of the
test needs it. What was labelled bad may go; what was labelled good should stay.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from domainlift.stats.intervals import wilson
from improve.exam.exam import Exam
from improve.exam.make import make_exam
from knowledge_bases.domains import load_domains
from rag.corpus.chunks import split_text
from rag.corpus.documents import load_documents
from rag.index.build_domain import domain_files

LABELS = [
    json.loads(line)
    for line in (Path(__file__).parent / "rule_labels.jsonl").read_text("utf-8").splitlines()
]
#: The sources of the mirror are large.
SOURCES = [
    source if source == "example-handbook" else pytest.param(source, marks=pytest.mark.slow)
    for source in sorted({label["source"] for label in LABELS})
]
GOAL = 0.9


@cache
def exam_of(source: str) -> Exam:
    """The exam of a source, cut by the characters of chunks; skipped without the mirror."""
    mirror = Path(os.environ.get("BENCH_DATA", ""))
    own = Path(__file__).parents[3] / "docs" / source
    path = own if own.exists() else mirror / source
    if not path.exists() or (path != own and not os.environ.get("BENCH_DATA")):
        pytest.skip(f"`{source}` is not at hand: set BENCH_DATA")
    found = domain_files("labelled", load_domains(None), None, (str(path),), "own")
    documents = load_documents(found.files).documents
    chunks = [
        chunk for each in documents for chunk in split_text(each, lambda text: len(text) // 4)
    ]
    return make_exam("labelled", "g", chunks)


@pytest.mark.parametrize("source", SOURCES)
def test_what_was_labelled_good_is_still_made(source: str) -> None:
    made = {each.id for each in exam_of(source).questions}
    good = [label["id"] for label in LABELS if label["source"] == source and label["good"]]
    assert sum(each in made for each in good) >= GOAL * len(good)


@pytest.mark.parametrize("source", SOURCES)
def test_of_the_labelled_questions_that_are_made_nine_of_ten_are_good(source: str) -> None:
    made = {each.id for each in exam_of(source).questions}
    labels = [
        label["good"] for label in LABELS if label["source"] == source and label["id"] in made
    ]
    assert sum(labels) >= GOAL * len(labels)


def test_the_shares_of_the_labels_are_what_the_docs_say() -> None:
    """A table that is printed where it fails, so that the docs can be set right."""
    docs = (Path(__file__).parents[3] / "docs" / "improve.md").read_text(encoding="utf-8")
    count, good = Counter[str](), Counter[str]()
    for label in LABELS:
        count[label["kind"]] += 1
        good[label["kind"]] += label["good"]
    for kind, n in count.items():
        interval = wilson(good[kind], n)
        assert (
            f"| {kind} | {good[kind]} of {n} | [{interval.low:.2f}, {interval.high:.2f}] |" in docs
        )
