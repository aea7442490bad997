"""Rows of any content: right ones in which values are exchanged and keys dropped or misspelt."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.tasks.registry import load_task
from domainlift.errors import Misuse
from finetune.data.formats import check_rows, read_training_rows

CALL = {"name": "look_up", "arguments": '{"name": "Etna", "n": 1.5}'}
TURNS = [
    {"role": "system", "content": "Be kind.", "id": 3},
    {"role": "user", "content": [{"type": "text", "text": "Etna?"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"function": CALL}], "weight": 0},
    {"role": "tool", "name": "look_up", "content": "3403 m"},
    {"role": "assistant", "content": "High.", "reasoning_content": "Hm.", "train": True},
]
ROWS: list[dict[str, Any]] = [
    {"question": "Sky?", "options": ["red", "blue"], "answer": "B", "split": "train", "id": 1},
    {"question": "Sky?", "A": "red", "B": "blue", "C": "green", "label": 1, "cluster": 2.0},
    {"query": "2 + 2?", "choice1": 3, "choice2": 4, "gold": 1, "context": "Sums."},
    {"question": "2 + 2?", "answer": 4, "domain": "sums", "support": "a.md#b"},
    {"question": "Sky?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"},
    {"messages": TURNS, "tools": [{"type": "function"}], "source": "wiki", "licence": "MIT"},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"prompt": "Sky?", "chosen": "blue", "rejected": "red"},
    {"instruction": "Add.", "input": "1 and 2", "output": "3", "history": [["1?", "2"]]},
    {"prompt": "Capital of France?", "completion": " Paris"},
]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 7, 2.0, 0.5, 10**30, float("nan"), float("inf"), 1e300),
    *("", " ", "A", "(b)", "2", "2.0", "nan", "None", "\u0000", "\ud83d", "é\u0301", "<think>"),
    *('[{"role": "user"}]', "[1, 2]", "{", [], {}, [None], [[]], ["a", "a"], {"A": 1}, [0, 1, 2]),
]


def mutated(value: Any, rng: random.Random) -> Any:
    """A value in which here and there something else stands."""
    if rng.random() < 0.08:
        return rng.choice([*ODD, rng.choice(ROWS)])
    if isinstance(value, list):
        kept = [mutated(each, rng) for each in value if rng.random() > 0.05]
        return kept if rng.random() > 0.05 else kept * 2
    if isinstance(value, dict):
        return {misspelt(k, rng): mutated(v, rng) for k, v in value.items() if rng.random() > 0.04}
    return value


def misspelt(key: str, rng: random.Random) -> str:
    """A key, now and then with two letters exchanged, in capitals, or another one."""
    if rng.random() > 0.06:
        return key
    place = rng.randrange(len(key))
    swapped = key[:place] + key[place + 1 : place + 2] + key[place : place + 1] + key[place + 2 :]
    return rng.choice([swapped, key.upper(), key + "s", rng.choice(["label", "A", "", "train"])])


def check(seed: int, folder: Path) -> None:
    """Whatever a row holds, both readers read or refuse it, and agree on questions."""
    rng = random.Random(seed)
    row = mutated(rng.choice(ROWS), rng)
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row if isinstance(row, dict) else {"question": row}), "utf-8")
    found = check_rows(path)
    assert all(problem.what and problem.line == 1 for problem in found.problems)
    learned = _made(lambda: list(read_training_rows(path, "d")))
    assert (learned is None) is bool(found.problems)
    assert learned is None or all(row.completion.strip() for row in learned)
    for shown in found.understood:
        if shown["format"] == "question/answer" and "split" in shown:
            task = load_task(str(path), data=None, domains={}, split=shown["split"])
            [question] = task.questions
            assert (question.text, list(question.options)) == (
                shown["question"],
                shown.get("options", []),
            )
    asked = _made(lambda: load_task(str(path), data=None, domains={}))
    assert asked is None or not found.problems


def _made(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Misuse:
        return None


SEEDS = st.integers(0, 2**32)
RELAXED = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@given(SEEDS)
@example(0)
@settings(max_examples=400, suppress_health_check=RELAXED)
def test_any_row_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    check(seed, tmp_path)


@pytest.mark.slow
@given(SEEDS)
@settings(max_examples=20_000, derandomize=True, suppress_health_check=RELAXED)
def test_twenty_thousand_rows_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    check(seed, tmp_path)
