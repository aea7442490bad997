"""Two stored runs, question by question, in bounded memory.

Of each question only what is counted stays in memory, with the place of its line in the file, so
that texts (an answer may have a megabyte) are read again only for the few that are shown. The
files are those of `benchmarks.store`; fields that a run does not have stand at their defaults.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from domainlift.errors import Malformed, Misuse, NoSuch

if TYPE_CHECKING:
    from benchmarks.store import Run

_Row = TypeVar("_Row")
_DECODE = json.JSONDecoder().decode


class Asked(NamedTuple):
    """A question; `content` is a hash of what is asked, `at` the place of its line in bytes.

    `gold` is the index of the right option, None where the answer is open; `chance` is the
    accuracy of guessing.
    """

    id: str
    domain: str
    cluster: str
    gold: int | None
    chance: float
    support: str
    content: int
    at: int


class Answered(NamedTuple):
    """What is counted of an answer.

    `gold` is the probability of the right option among the options. `passages` and `found` are
    numbers; `hit` says whether the passage that holds the answer was found, None where it is not
    known which one does.
    """

    status: str
    correct: bool | None
    gold: float | None
    prompt_tokens: int
    output_tokens: int
    seconds: float
    passages: int
    found: int
    hit: bool | None
    leak: bool
    adapter: bool
    route: str
    rung: str
    at: int


class Pair(NamedTuple):
    """A question that both runs ask; an answer is None where it is not there yet."""

    asked: Asked
    before: Answered | None
    after: Answered | None

    @property
    def change(self) -> float | None:
        """+1 turned right, -1 turned wrong, 0 stayed; None without an answer on either side."""
        before = self.before.correct if self.before is not None else None
        after = self.after.correct if self.after is not None else None
        return None if before is None or after is None else float(after) - float(before)


@dataclass(frozen=True)
class Joined:
    """The questions of two runs.

    `only` counts by domain what one run asks alone, the baseline first; `altered` are ids under
    which the runs ask something different; `repeated` counts questions that stand twice.
    """

    pairs: tuple[Pair, ...]
    only: tuple[Counter[str], Counter[str]]
    altered: int
    repeated: tuple[int, int]


def join(baseline: Run, candidate: Run, domains: Collection[str] = ()) -> Joined:
    """Pair two runs on the ids of their questions; Misuse where they share none.

    A question's domain is the baseline's. With `domains` only theirs are paired; NoSuch where the
    runs have no such domain.
    """
    before, twice_before = _questions(baseline.folder)
    after, twice_after = _questions(candidate.folder)
    common = [q for id_, q in before.items() if id_ in after and after[id_].content == q.content]
    altered = sum(id_ in after and after[id_].content != q.content for id_, q in before.items())
    if not common:
        raise _disjoint(baseline, candidate, altered)
    only = (_alone(before, after), _alone(after, before))
    common = _chosen(common, domains)
    old = _answers(baseline.folder, {q.id: q for q in common})
    new = _answers(candidate.folder, {q.id: q for q in common})
    pairs = tuple(Pair(q, old.get(q.id), new.get(q.id)) for q in common)
    return Joined(pairs, only, altered, (twice_before, twice_after))


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the collector of cycles: among a million small tuples it finds none, again and again.

    It takes as long as everything else in a comparison of 100,000 questions.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_at(path: Path, places: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The rows whose lines begin at these bytes."""
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            yield json.loads(file.readline())


def _disjoint(baseline: Run, candidate: Run, altered: int) -> Misuse:
    names = f"runs `{baseline.folder.name}` and `{candidate.folder.name}`"
    if altered:
        return Misuse(
            f"{names} ask different questions under the same {altered} ids",
            "score both on one version of the file: repeat the older run with `--fresh`",
        )
    return Misuse(
        f"{names} have no question in common",
        "compare runs of one suite: `bench runs list` shows which have the same",
    )


def _alone(these: Mapping[str, Asked], those: Mapping[str, Asked]) -> Counter[str]:
    return Counter(question.domain for id_, question in these.items() if id_ not in those)


def _chosen(common: list[Asked], domains: Collection[str]) -> list[Asked]:
    known = {question.domain for question in common}
    for name in domains:
        if name not in known:
            raise NoSuch("domain in both runs", name, known)
    return [q for q in common if q.domain in domains] if domains else common


def _questions(folder: Path) -> tuple[dict[str, Asked], int]:
    """The questions by id, the first counts, and how many stand there again."""
    found: dict[str, Asked] = {}
    rows = 0
    for row in _rows(folder / "questions.jsonl", _asked):
        rows += 1
        found.setdefault(row.id, row)
    return found, rows - len(found)


def _answers(folder: Path, asked: Mapping[str, Asked]) -> dict[str, Answered]:
    """The answers to these questions; should one stand twice, the later one counts."""

    def read(row: dict[str, Any], at: int) -> tuple[str, Answered] | None:
        question = asked.get(row["id"])
        return None if question is None else (question.id, _answered(row, question, at))

    return dict(filter(None, _rows(folder / "answers.jsonl", read)))


def _rows(path: Path, read: Callable[[dict[str, Any], int], _Row]) -> Iterator[_Row]:
    """Read whole lines of a JSONL file; the last one counts only with its line feed."""
    if not path.exists():
        return
    at = 0
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                return
            try:
                yield read(_DECODE(text.decode("utf-8")), at)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise Malformed(
                    path, "not a stored row", line=number, hint="remove that line"
                ) from error
            at += len(text)


def _asked(row: dict[str, Any], at: int) -> Asked:
    options, answer = tuple(row.get("options", ())), row["answer"]
    return Asked(
        row["id"],
        intern(row["domain"]),
        intern(row.get("cluster", "")),
        answer if isinstance(answer, int) else None,
        1 / len(options) if options else 0.0,
        row.get("support", ""),
        hash((row["text"], options, answer)),
        at,
    )


def _answered(row: dict[str, Any], question: Asked, at: int) -> Answered:
    get = row.get
    found = get("found", ())
    return Answered(
        intern(row["status"]),
        row["correct"],
        _gold(get("logprobs", ()), question.gold),
        get("prompt_tokens", 0),
        get("output_tokens", 0),
        get("seconds", 0.0),
        len(get("passages", ())),
        len(found),
        _hit(found, question.support),
        bool(get("leak", "")),
        "adapter" in get("treatment", ""),
        intern(get("route", "")),
        intern(get("rung", "")),
        at,
    )


def _gold(logprobs: Sequence[float], gold: int | None) -> float | None:
    if gold is None or not 0 <= gold < len(logprobs):
        return None
    top = max(logprobs)
    share = exp(logprobs[gold] - top) / sum([exp(value - top) for value in logprobs])
    return share if share == share else None  # not where it is no number


def _hit(found: Sequence[Mapping[str, Any]], support: str) -> bool | None:
    if not support or not found:
        return None
    return any(str(each.get("place", "")).startswith(support) for each in found)
