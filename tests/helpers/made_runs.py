"""Stored runs that say what a test wants, without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.runs.store import Record, Run, RunManifest, RunStore
from domainlift.types import Question

OPTIONS = ("Paris", "Rome", "Bern", "Oslo")
MANIFEST = RunManifest(
    run="",
    model="made",
    suite="made",
    fingerprint={"model": "m", "engine": "e", "treatment": "base", "data": "d", "prompts": "p"},
    settings={
        "command": "bench run --model made",
        "treatment": "base",
        "seed": 0,
        "tasks": {"exam": {"scoring": "letter", "shots": 0}},
    },
    engine={"name": "made", "options": {"temperature": 0}, "notes": []},
    versions={"made": "1"},
    questions=0,
    created="2026-01-01T00:00:00+00:00",
    finished=True,
)


def question(number: int, domain: str = "history", **more: Any) -> Question:
    """A question of four options whose answer is a function of its number."""
    given = {"text": f"Which city has number {number}?", "options": OPTIONS, "answer": number % 4}
    return Question(**{"id": f"q{number}", "domain": domain, "task": "exam", **given, **more})


def record(asked: Question, right: bool | None, **more: Any) -> Record:
    """An answer that is right, wrong, or (None) an error; it is sure of what it says."""
    gold = asked.answer if isinstance(asked.answer, int) else 0
    chosen = gold if right else (gold + 1) % max(2, len(asked.options))
    logs = [math.log(0.7 if n == chosen else 0.1) for n in range(len(asked.options))]
    said = Record(
        asked.id,
        asked.domain,
        asked.task,
        "error" if right is None else "ok",
        right,
        chosen=None if right is None else chosen,
        logprobs=() if right is None else tuple(logs),
        prompt_tokens=20,
        seconds=0.5,
        error="refused" if right is None else None,
    )
    return replace(said, **more)


def store(
    workspace: Path,
    name: str,
    rows: Sequence[tuple[Question, Record | None]],
    **manifest: Any,
) -> Run:
    """Write a run; a question without a record is not answered yet. Mappings are merged."""
    changed = {
        key: {**getattr(MANIFEST, key), **value} if isinstance(value, Mapping) else value
        for key, value in manifest.items()
    }
    said = replace(MANIFEST, **{"run": name, "questions": len(rows), **changed})
    run = RunStore(workspace).create(said, [asked for asked, _ in rows])
    with run.writing():
        for _, answer in rows:
            if answer is not None:
                run.append(answer)
    return run


def two(
    workspace: Path, outcomes: Mapping[str, Sequence[tuple[bool | None, bool | None]]], **after: Any
) -> tuple[Run, Run]:
    """Two runs of the same questions, by domain their outcomes before and after."""
    flat = [(name, pair) for name, pairs in outcomes.items() for pair in pairs]
    asked = [question(number, name) for number, (name, _) in enumerate(flat)]
    sides = []
    for place, (name, more) in enumerate((("before", {}), ("after", after))):
        answers = [record(q, pair[place]) for q, (_, pair) in zip(asked, flat, strict=True)]
        sides.append(store(workspace, name, list(zip(asked, answers, strict=True)), **more))
    return sides[0], sides[1]


def outcomes(
    both: int = 0, fixed: int = 0, broken: int = 0, neither: int = 0
) -> list[tuple[bool | None, bool | None]]:
    """So many questions of each kind."""
    return (
        [(True, True)] * both
        + [(False, True)] * fixed
        + [(True, False)] * broken
        + [(False, False)] * neither
    )
