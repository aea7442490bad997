"""Pairing of two runs on their questions, in bounded memory.

Of each question and answer only what is counted stays in memory, with the byte offset of its line,
so that texts (an answer may have a megabyte) are read again only for the few that are shown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.results.error_reasons import error_reason
from benchmarks.results.letters import lettered_tasks
from benchmarks.runs.store import Record, Run
from benchmarks.scoring.score import probabilities
from domainlift.errors import Misuse, NoSuch
from domainlift.stats.paired import Paired, paired
from domainlift.types import Question
from engines.base import Status

#: Records with the byte offsets of their lines.
_Rows = Iterable[tuple[int, Record]]


class PairedQuestion(NamedTuple):
    """A question; `content` is a hash of what is asked, `offset` the place of its line in bytes.

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
    offset: int


class PairedAnswer(NamedTuple):
    """What is counted of an answer.

    `gold` is the probability of the right option among the options. `passages` and `retrieved` are
    numbers; `hit` says whether the passage that holds the answer was retrieved, None where it is
    not known which one does, or none was searched for. A search without hits is a miss. `letter`
    is the index of the chosen one, None where no letters were shown, `reason` that of an error.
    """

    status: str
    correct: bool | None
    gold: float | None
    prompt_tokens: int
    output_tokens: int
    seconds: float
    passages: int
    retrieved: int
    hit: bool | None
    leak: bool
    adapter: bool
    route: str
    decided_by: str
    letter: int | None
    offset: int
    reason: str = ""
    metrics: Mapping[str, tuple[float, ...]] = MappingProxyType({})


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
    before, twice_before = _first_of_each(baseline.iter_questions())
    after, twice_after = _first_of_each(candidate.iter_questions())
    shared = [question for id_, question in before.items() if id_ in after]
    common = [question for question in shared if after[question.id].content == question.content]
    altered = Counter(q.domain for q in shared if after[q.id].content != q.content)
    if not common:
        raise _disjoint(baseline, candidate, altered.total())
    common = _of_domains(common, domains)
    return PairedRuns(
        tuple(_pairs(common, _read_answers(baseline), _read_answers(candidate))),
        (_within(_alone(before, after), domains), _within(_alone(after, before), domains)),
        _within(altered, domains).total(),
        (_within(twice_before, domains).total(), _within(twice_after, domains).total()),
        filtered=bool(domains),
    )


def paired_changes(before: Run, after: Run) -> dict[str, Paired]:
    """The change of accuracy between two runs by domain, and in total under ""."""
    return _changes(pair_runs(before, after).pairs)


def paired_record_changes(
    before: Iterable[Record], after: Iterable[Record], questions: Mapping[str, Question]
) -> dict[str, Paired]:
    """The same between records of these questions; those of others are left out."""
    wanted = [_paired_question(question, 0) for question in questions.values()]
    sides = ((enumerate(records), frozenset[str]()) for records in (before, after))
    return _changes(_pairs(wanted, *sides))


def paired_accuracy(pairs: Sequence[Pair]) -> Paired:
    """The change of accuracy over these pairs, each of which has two answers."""
    return paired(
        [bool(pair.before and pair.before.correct) for pair in pairs],
        [bool(pair.after and pair.after.correct) for pair in pairs],
        [pair.question.cluster for pair in pairs],
    )


def _changes(pairs: Iterable[Pair]) -> dict[str, Paired]:
    answered: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.change is not None:
            answered[pair.question.domain].append(pair)
            answered[""].append(pair)
    return {domain: paired_accuracy(answered[domain]) for domain in sorted(answered)}


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


def _of_domains(common: list[PairedQuestion], domains: Collection[str]) -> list[PairedQuestion]:
    names = {question.domain for question in common}
    for name in domains:
        if name not in names:
            raise NoSuch("domain in both runs", name, names)
    return [q for q in common if q.domain in domains] if domains else common


def _within(counts: Counter[str], domains: Collection[str]) -> Counter[str]:
    """The counts of these domains; of all where none are named."""
    if not domains:
        return counts
    return Counter({domain: n for domain, n in counts.items() if domain in domains})


def _first_of_each(
    rows: Iterable[tuple[int, Question]],
) -> tuple[dict[str, PairedQuestion], Counter[str]]:
    """The questions by id, the first counts, and by domain the number of repetitions."""
    questions: dict[str, PairedQuestion] = {}
    repeated: Counter[str] = Counter()
    for offset, question in rows:
        if question.id in questions:
            repeated[question.domain] += 1
        else:
            questions[question.id] = _paired_question(question, offset)
    return questions, repeated


def _read_answers(run: Run) -> tuple[_Rows, Collection[str]]:
    return run.iter_records(), lettered_tasks(run.manifest)


def _pairs(
    questions: Sequence[PairedQuestion],
    before: tuple[_Rows, Collection[str]],
    after: tuple[_Rows, Collection[str]],
) -> list[Pair]:
    by_id = {question.id: question for question in questions}
    old, new = (dict(_answers(*side, by_id)) for side in (before, after))
    return [Pair(question, old.get(question.id), new.get(question.id)) for question in questions]


def _answers(
    rows: _Rows, lettered: Collection[str], questions: Mapping[str, PairedQuestion]
) -> Iterator[tuple[str, PairedAnswer]]:
    for offset, record in rows:
        question = questions.get(record.id)
        if question is not None:
            chosen = record.chosen if record.task in lettered else None
            letter = chosen if isinstance(chosen, int) else None
            yield question.id, _paired_answer(record, question, letter, offset)


def _paired_question(question: Question, offset: int) -> PairedQuestion:
    return PairedQuestion(
        question.id,
        intern(question.domain),
        intern(question.cluster),
        question.answer if isinstance(question.answer, int) else None,
        question.chance,
        question.support,
        hash((question.text, question.options, question.answer, question.others, question.tools)),
        offset,
    )


def _paired_answer(
    record: Record, question: PairedQuestion, letter: int | None, offset: int
) -> PairedAnswer:
    return PairedAnswer(
        intern(record.status),
        record.correct,
        _gold(record.logprobs, question.gold),
        record.prompt_tokens,
        record.output_tokens,
        record.seconds,
        len(record.passages),
        len(record.retrieved),
        _hit(record, question.support),
        bool(record.leak),
        bool(record.adapter),
        intern(record.route),
        intern(record.decided_by),
        letter,
        offset,
        intern(error_reason(record.error)) if record.status == Status.ERROR else "",
        record.metrics,
    )


def _gold(logprobs: Sequence[float], gold: int | None) -> float | None:
    if gold is None or not 0 <= gold < len(logprobs):
        return None
    share = probabilities(logprobs)[gold]
    return share if share == share else None  # not where it is no number


def _hit(record: Record, support: str) -> bool | None:
    if not support or not record.searched:
        return None
    places = [str(hit.get("place", "")) for hit in record.retrieved]
    # A document's place, or that of a record in it, and not of another whose name begins alike.
    return any(place == support or place.startswith(f"{support}#") for place in places)
