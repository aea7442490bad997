"""Two stored runs, question by question, in bounded memory.

Of each question only what is counted stays in memory, with the place of its line in the file, so
that texts (an answer may have a megabyte) are read again only for the few that are shown. The
files are those of `benchmarks.runs.store`; fields that a run does not have stand at their defaults.
"""

from __future__ import annotations

import gc
import json
import re
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
    from benchmarks.runs.store import Run

_Row = TypeVar("_Row")
_DECODE = json.JSONDecoder().decode
# What `rag.treatment` says where it searched, though nothing was found.
_SEARCHED = ("nothing found", "the gate is shut")
# How older runs, whose answers do not name it, told of an adapter.
_TOLD_ADAPTER = re.compile(r"(?:^|, )adapter \S")


class PairedQuestion(NamedTuple):
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


class PairedAnswer(NamedTuple):
    """What is counted of an answer.

    `gold` is the probability of the right option among the options. `passages` and `found` are
    numbers; `hit` says whether the passage that holds the answer was found, None where it is not
    known which one does, or none was looked for. A search that found nothing is a miss.
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

    question: PairedQuestion
    before: PairedAnswer | None
    after: PairedAnswer | None

    @property
    def change(self) -> float | None:
        """+1 turned right, -1 turned wrong, 0 stayed; None without an answer on either side."""
        before = self.before.correct if self.before is not None else None
        after = self.after.correct if self.after is not None else None
        return None if before is None or after is None else float(after) - float(before)


@dataclass(frozen=True)
class PairedRuns:
    """The questions of two runs; where `filtered`, those of some domains only.

    `only` counts by domain what one run asks alone, the baseline first; `altered` are ids under
    which the runs ask something different; `repeated` counts questions that stand twice.
    """

    pairs: tuple[Pair, ...]
    only: tuple[Counter[str], Counter[str]]
    altered: int
    repeated: tuple[int, int]
    filtered: bool = False


@contextmanager
def without_garbage_collection() -> Iterator[None]:
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


@without_garbage_collection()
def pair_runs(baseline: Run, candidate: Run, domains: Collection[str] = ()) -> PairedRuns:
    """Pair two runs on the ids of their questions.

    A question's domain is the baseline's. With `domains` only theirs are paired and counted.
    Misuse where the runs are one, or share no question; NoSuch where they have no such domain.
    """
    if baseline.folder.resolve() == candidate.folder.resolve():
        raise Misuse(
            f"run `{baseline.folder.name}` is compared with itself",
            "name two runs; `bench runs list` shows all",
        )
    before, twice_before = _questions(baseline.folder)
    after, twice_after = _questions(candidate.folder)
    shared = [question for id_, question in before.items() if id_ in after]
    common = [question for question in shared if after[question.id].content == question.content]
    altered = Counter(q.domain for q in shared if after[q.id].content != q.content)
    if not common:
        raise _disjoint(baseline, candidate, altered.total())
    common = _chosen(common, domains)
    old, new = (_answers(r.folder, {q.id: q for q in common}) for r in (baseline, candidate))
    return PairedRuns(
        tuple(Pair(question, old.get(question.id), new.get(question.id)) for question in common),
        (_within(_alone(before, after), domains), _within(_alone(after, before), domains)),
        _within(altered, domains).total(),
        (_within(twice_before, domains).total(), _within(twice_after, domains).total()),
        filtered=bool(domains),
    )


def read_line_at(path: Path, places: Sequence[int]) -> Iterator[dict[str, Any]]:
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


def _alone(
    these: Mapping[str, PairedQuestion], those: Mapping[str, PairedQuestion]
) -> Counter[str]:
    return Counter(question.domain for id_, question in these.items() if id_ not in those)


def _chosen(common: list[PairedQuestion], domains: Collection[str]) -> list[PairedQuestion]:
    known = {question.domain for question in common}
    for name in domains:
        if name not in known:
            raise NoSuch("domain in both runs", name, known)
    return [q for q in common if q.domain in domains] if domains else common


def _within(counts: Counter[str], domains: Collection[str]) -> Counter[str]:
    """The counts of these domains; of all where none are named."""
    if not domains:
        return counts
    return Counter({domain: n for domain, n in counts.items() if domain in domains})


def _questions(folder: Path) -> tuple[dict[str, PairedQuestion], Counter[str]]:
    """The questions by id, the first counts, and how many of each domain stand there again."""
    found: dict[str, PairedQuestion] = {}
    again: Counter[str] = Counter()
    for row in _rows(folder / "questions.jsonl", _asked):
        if found.setdefault(row.id, row) is not row:
            again[row.domain] += 1
    return found, again


def _answers(folder: Path, asked: Mapping[str, PairedQuestion]) -> dict[str, PairedAnswer]:
    """The answers to these questions; should one stand twice, the later one counts."""

    def read(row: dict[str, Any], at: int) -> tuple[str, PairedAnswer] | None:
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


def _asked(row: dict[str, Any], at: int) -> PairedQuestion:
    options, answer = tuple(row.get("options", ())), row["answer"]
    return PairedQuestion(
        row["id"],
        intern(row["domain"]),
        intern(row.get("cluster", "")),
        answer if isinstance(answer, int) else None,
        1 / len(options) if options else 0.0,
        row.get("support", ""),
        hash((row["text"], options, answer)),
        at,
    )


def _answered(row: dict[str, Any], question: PairedQuestion, at: int) -> PairedAnswer:
    get = row.get
    found, treatment = get("found", ()), get("treatment", "")
    return PairedAnswer(
        intern(row["status"]),
        row["correct"],
        _gold(get("logprobs", ()), question.gold),
        get("prompt_tokens", 0),
        get("output_tokens", 0),
        get("seconds", 0.0),
        len(get("passages", ())),
        len(found),
        _hit(found, question.support, treatment),
        bool(get("leak", "")),
        bool(get("adapter")) or _TOLD_ADAPTER.search(treatment) is not None,
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


def _hit(found: Sequence[Mapping[str, Any]], support: str, treatment: str) -> bool | None:
    if not support or (not found and not any(said in treatment for said in _SEARCHED)):
        return None
    places = [str(each.get("place", "")) for each in found]
    # A document's place, or that of a record in it, and not of another whose name begins alike.
    return any(place == support or place.startswith(f"{support}#") for place in places)
