"""Rewards as plain functions of a reply and its reference.

Each tells the form of a reply apart from whether it is right, so that a model that learns only the
form is seen to do so.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.scoring.arithmetic import COUNTDOWN_SCORER
from benchmarks.scoring.scorer import BY_REFERENCE, LETTER, Scorer
from domainlift.errors import Misuse, NoSuch
from domainlift.types import Question
from finetune.rewards.unit_tests import passes_tests, python_code


@dataclass(frozen=True)
class Judgement:
    """Whether a reply has the form that can be read, and how right it is, both from 0 to 1."""

    format: float
    accuracy: float


Reward = Callable[[str, str], Judgement]


def exact_answer(reply: str, reference: str) -> Judgement:
    """Right where `bench run` would say so of an open question: the number, or the same words."""
    return _scored(BY_REFERENCE, _question(reference.strip()), reply)


def multiple_choice(reply: str, reference: str) -> Judgement:
    """Right where the reply names the reference's letter, and no other."""
    letter = reference.strip()[:1].upper()
    if letter not in ascii_uppercase or not letter:
        raise ValueError(f"the reference `{reference.strip()[:20]}` is no letter")
    answer = ascii_uppercase.index(letter)
    options = ("\0",) * max(answer + 1, 10)  # a reply can name them by their letters only
    return _scored(LETTER, _question(answer, options), reply)


def countdown(reply: str, reference: str) -> Judgement:
    """Right where the numbers of the reference, each used once, make its value."""
    return _scored(COUNTDOWN_SCORER, _question(reference), reply)


def unit_tests(reply: str, reference: str) -> Judgement:
    """Right where the code of the reply passes the tests that the reference is."""
    code = python_code(reply)
    return Judgement(float(bool(code)), float(bool(code) and passes_tests(code, reference)))


REWARDS: dict[str, Reward] = {
    "exact": exact_answer,
    "choice": multiple_choice,
    "countdown": countdown,
    "tests": unit_tests,
}


def open_reward(name: str) -> Reward:
    """A reward by its name, or the function of a user's own file: `rewards.py:function`.

    Such a function takes a reply and its reference, and returns how right it is, or form and
    rightness. Misuse where there is none such.
    """
    if name in REWARDS:
        return REWARDS[name]
    file, _, wanted = name.rpartition(":")
    if not file.endswith(".py"):
        raise NoSuch("reward", name, REWARDS)
    spec = importlib.util.spec_from_file_location("own_reward", file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise Misuse(f"no file `{file}` with a reward", "give it as `rewards.py:function`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = getattr(module, wanted, None)
    if not callable(own):
        raise Misuse(f"`{file}` has no function `{wanted}`", "give it as `rewards.py:function`")
    return lambda reply, reference: as_judgement(own(reply, reference))


def as_judgement(value: Any) -> Judgement:
    """What a reward returned; ValueError where it is no number from 0 to 1, or two of them."""
    if isinstance(value, Judgement):
        value = (value.format, value.accuracy)
    parts = [float(part) for part in (value if isinstance(value, tuple) else (1.0, value))]
    if len(parts) != 2 or not all(math.isfinite(part) and 0 <= part <= 1 for part in parts):
        raise ValueError(f"returned {value!r:.60}, and not a number from 0 to 1")
    return Judgement(*parts)


def _scored(scorer: Scorer, question: Question, reply: str) -> Judgement:
    found = scorer.extract(question, reply)
    if found is None or found.answer == "":
        return Judgement(0.0, 0.0)
    return Judgement(1.0, float(scorer.matches(question, found)))


def _question(answer: int | str, options: tuple[str, ...] = ()) -> Question:
    return Question("", "", "", "", options, answer)
