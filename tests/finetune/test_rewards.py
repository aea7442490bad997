"""Rewards: what is right, what only looks so, and what must not stop a training."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scoring.arithmetic import read_expression
from domainlift.errors import BenchError
from finetune.rewards.functions import REWARDS, Judgement
from finetune.rewards.judge import Judge

RIGHT, FORM_ONLY, NOTHING = Judgement(1, 1), Judgement(1, 0), Judgement(0, 0)


@pytest.mark.parametrize(
    ("reply", "reference", "expected"),
    [
        ("3 * 4 + 2", "2 + 4 * 3", RIGHT),
        ("<answer>(1+2)*3</answer>\n", "3*(1+2)", RIGHT),
        ("I think.\n<answer>(1+2)*3 = 9</answer> \n\n", "3*(1+2)", RIGHT),
        ("(1 + 2) × 3 = 9\n", "3*(1+2)", RIGHT),
        ("8 / 3 * 3", "3 * 8 / 3", RIGHT),
        ("1.2*5", "1*(5+2)-1", NOTHING),  # a decimal point would glue two numbers
        ("7//2", "7-2", NOTHING),
        ("2**3", "2*3", NOTHING),
        ("9**9**9", "9+9+9", NOTHING),
        ("-2 + 5", "5 - 2", NOTHING),
        ("12", "1 + 2", FORM_ONLY),
        ("3 + 3", "3 + 3 + 3 - 3", FORM_ONLY),  # the value alone is not enough
        ("1 + 2 + 2", "1 + 2", FORM_ONLY),
        ("1/0", "1 + 0", NOTHING),
        ("(" * 150 + "1" + ")" * 49, "1", NOTHING),
        ("9" * 199, "9", NOTHING),
        ("len('ab')", "2", NOTHING),
        ("5(3)", "5*3", NOTHING),
        ("", "1 + 2", NOTHING),
    ],
)
def test_countdown_cannot_be_cheated(reply: str, reference: str, expected: Judgement) -> None:
    begun = time.monotonic()
    assert REWARDS["countdown"](reply, reference) == expected
    assert time.monotonic() - begun < 1


@given(st.text(alphabet="0123456789+-*/() .", max_size=40))
def test_an_expression_is_read_as_python_counts_it(text: str) -> None:
    found = read_expression(text)
    if found is not None:
        assert float(found.value) == pytest.approx(eval(text))


@pytest.mark.parametrize(
    ("reward", "reply", "reference", "expected"),
    [
        ("exact", "The answer is 1,200.", "1200", RIGHT),
        ("exact", "Paris", "paris", RIGHT),
        ("exact", "Rome", "Paris", FORM_ONLY),
        ("exact", "", "Paris", NOTHING),
        ("choice", "The answer is B.", " B", RIGHT),
        ("choice", "A", "B", FORM_ONLY),
        ("choice", "I do not know.", "B", NOTHING),
    ],
)
def test_answers_are_judged_as_bench_run_judges_them(
    reward: str, reply: str, reference: str, expected: Judgement
) -> None:
    assert REWARDS[reward](reply, reference) == expected


TESTS = "assert double(2) == 4\nassert double(-1) == -2"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("```python\ndef double(x):\n    return 2 * x\n```", RIGHT),
        ("def double(x):\n    return x", FORM_ONLY),
        ("import os\nos._exit(0)", FORM_ONLY),  # leaving early is not passing
        ("raise SystemExit(0)", FORM_ONLY),
        ("double = lambda x: bytearray(2**31)", FORM_ONLY),
        ("while True: print('x' * 10**6)", FORM_ONLY),
        ("Here you go:", NOTHING),
        ("", NOTHING),
    ],
)
def test_code_is_right_where_its_tests_pass_within_bounds(reply: str, expected: Judgement) -> None:
    assert REWARDS["tests"](reply, TESTS) == expected


OWN = """
import os, time
def own(reply, reference):
    if reply == "raise": raise KeyError("gone")
    if reply == "hang": time.sleep(60)
    if reply == "nan": return float("nan")
    if reply == "huge": return 7
    if reply == "exit": os._exit(3)
    return (0.5, float(reply == reference))
"""


def test_a_reward_that_raises_hangs_or_returns_nan_is_survived_and_named(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    name = f"{tmp_path / 'own.py'}:own"
    with Judge(name, seconds=1) as judge:
        replies = ["a", "raise", "hang", "nan", "huge", "exit", "a"]
        judged = judge.judge(replies, ["a"] * len(replies))
    good = Judgement(0.5, 1)
    assert judged == [good, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, good]
    told = " ".join(judge.faults)
    for words in ("raised KeyError", "took more than 1 s", "returned nan", "returned 7", "ended"):
        assert words in told


@pytest.mark.parametrize("name", ["countdwon", "nowhere.py:own", "own.py:nothing", "own.py:own"])
def test_a_reward_that_cannot_be_loaded_is_a_misuse(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("import nothing_of_this_name" if name == "own.py:own" else "")
    with pytest.raises(BenchError), Judge(name):
        pass
