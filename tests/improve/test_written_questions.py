"""The hand-written questions of the router, which no trap may be among."""

from __future__ import annotations

from pathlib import Path

import yaml

from domainlift.text.normalise import without_copies
from ensemble.fit.linear_model import told_apart
from ensemble.fit.training_data import Labelled
from improve.route import written_questions
from knowledge_bases.domains import load_domains

TRAPS = Path(__file__).parents[1] / "ensemble" / "traps.yaml"


def test_every_domain_that_has_tasks_has_questions_and_none_is_a_trap() -> None:
    known = {n: d for n, d in load_domains().items() if not d.suite and d.tasks}
    rows = written_questions(known)
    assert {row.domain for row in rows} == set(known)
    assert {row.task.partition(":")[0] for row in rows} == {"written"}
    traps = yaml.safe_load(TRAPS.read_text(encoding="utf-8"))["traps"]
    asked = [Labelled(trap["text"], (), trap["to"], "test") for trap in traps]
    assert without_copies(rows, of=asked) == rows
    assert written_questions({"history": 1}) == [r for r in rows if r.domain == "history"]


def test_of_several_right_labels_the_clearly_likeliest_is_taken() -> None:
    import numpy as np

    scores = np.log([[0.1, 0.3, 0.6], [0.4, 0.5, 0.1], [0.2, 0.1, 0.7]])
    assert told_apart(scores, [[0, 1], [0, 1], [1]]) == [1, 0, 1]
