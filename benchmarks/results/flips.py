"""Flips: questions that turned right or wrong, and those that stayed, with both answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import nsmallest
from itertools import islice
from math import isfinite
from typing import Any

from benchmarks.results.pairing import Pair, PairedAnswer
from benchmarks.runs.store import Record, Run
from benchmarks.scoring.score import probabilities

#: Baseline and candidate.
Runs = tuple[Run, Run]
#: So much of a text is kept; a model may say a megabyte.
_MOST_TEXT = 4000
_MOST_OPTIONS = 26


class FlipKind(StrEnum):
    """Outcomes before and after, in the order in which they are shown."""

    BROKEN = "broken"
    FIXED = "fixed"
    NEITHER = "neither"
    BOTH = "both"


#: How many of each kind are kept, as shares of the whole: regressions before all else.
_SHARES = {FlipKind.BROKEN: 0.45, FlipKind.FIXED: 0.35, FlipKind.NEITHER: 0.1, FlipKind.BOTH: 0.1}


@dataclass(frozen=True)
class FlipPassage:
    """A retrieved passage; `used` says whether it stood before the question."""

    source: str
    place: str
    score: float | None
    used: bool


@dataclass(frozen=True)
class FlipReply:
    """One run's answer to a question; `probabilities` are by option, empty for generated text."""

    status: str
    correct: bool
    chosen: int | str | None
    text: str | None
    probabilities: tuple[float, ...]
    treatment: str
    route: str
    decided_by: str
    matched: tuple[str, ...]
    sources: tuple[FlipPassage, ...]
    leak: str


@dataclass(frozen=True)
class Flip:
    """A question before and after; `gold` is the right option's index, or the right answer."""

    id: str
    domain: str
    task: str
    kind: FlipKind
    question: str
    options: tuple[str, ...]
    gold: int | str
    before: FlipReply
    after: FlipReply

    def said(self, chosen: int | str | None) -> str:
        """What was chosen, in words; it is as foreign as the question."""
        if isinstance(chosen, int) and 0 <= chosen < len(self.options):
            return self.options[chosen]
        return "no answer" if chosen is None else str(chosen)


def choose_flips(pairs: Sequence[Pair], runs: Runs, top: int) -> tuple[Flip, ...]:
    """The most telling questions, at most `top`: those that turned wrong first.

    Places that a kind does not need go to the others. Within a kind the domains take turns, the
    one with most of them first; in each, the first are those where the probability of the right
    option moved furthest. Long texts are cut.
    """
    chosen: list[tuple[FlipKind, Pair]] = []
    by_kind = _by_kind(pairs)
    for kind, places in _places({kind: len(by_kind[kind]) for kind in FlipKind}, top).items():
        chosen += [(kind, pair) for pair in _in_turns(by_kind[kind], places)]
    return tuple(map(_cut, _read(chosen, runs)))


def all_flips(pairs: Sequence[Pair], runs: Runs) -> Iterator[dict[str, Any]]:
    """Every question that turned, uncut, those that turned wrong first, one at a time."""
    by_kind = _by_kind(pairs)
    turned = [(kind, pair) for kind in (FlipKind.BROKEN, FlipKind.FIXED) for pair in by_kind[kind]]
    names = {"baseline": runs[0].folder.name, "candidate": runs[1].folder.name}
    for flip in _read(turned, runs):
        yield {**names, **_plain(flip)}


def _plain(flip: Flip) -> dict[str, Any]:
    """What `asdict` makes, without its copies: there may be 100,000 of them."""
    sides = {
        name: {**vars(reply), "sources": [vars(source) for source in reply.sources]}
        for name, reply in (("before", flip.before), ("after", flip.after))
    }
    return {**vars(flip), **sides}


def flip_kind(pair: Pair) -> FlipKind | None:
    """The kind of a pair; None unless both runs answered."""
    if pair.change is None or pair.after is None:
        return None
    stayed = FlipKind.BOTH if pair.after.correct else FlipKind.NEITHER
    return {1.0: FlipKind.FIXED, -1.0: FlipKind.BROKEN}.get(pair.change, stayed)


def _by_kind(pairs: Sequence[Pair]) -> dict[FlipKind, list[Pair]]:
    found: dict[FlipKind, list[Pair]] = defaultdict(list)
    for pair in pairs:
        kind = flip_kind(pair)
        if kind is not None:
            found[kind].append(pair)
    return found


def _places(there: Mapping[FlipKind, int], top: int) -> dict[FlipKind, int]:
    """How many of each kind are kept: first the shares, then what is left, in the kinds' order."""
    places: dict[FlipKind, int] = {}
    left = top
    for kind, count in there.items():
        places[kind] = min(count, max(1, round(top * _SHARES[kind])), left)
        left -= places[kind]
    for kind, count in there.items():
        more = min(count - places[kind], left)
        places[kind] += more
        left -= more
    return places


def _in_turns(pairs: Sequence[Pair], most: int) -> list[Pair]:
    by_domain: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_domain[pair.question.domain].append(pair)
    names = sorted(by_domain, key=lambda name: (-len(by_domain[name]), name))
    ranked = [enumerate(nsmallest(most, by_domain[name], key=_moved)) for name in names]
    order = sorted((row for rows in ranked for row in rows), key=lambda row: row[0])
    return [pair for _, pair in islice(order, most)]


def _moved(pair: Pair) -> tuple[float, str]:
    before, after = (answer.gold if answer is not None else None for answer in pair[1:])
    far = abs(after - before) if before is not None and after is not None else 0.0
    # Rounded, so that equal moves are told apart by the id and not by their last bit.
    return -round(far, 6), pair.question.id


def _read(chosen: Sequence[tuple[FlipKind, Pair]], runs: Runs) -> Iterator[Flip]:
    """Read the texts of these pairs from the files, one at a time."""
    pairs = [pair for _, pair in chosen]
    questions = runs[0].questions_at(pair.question.offset for pair in pairs)
    before = runs[0].records_at(_offset(pair.before) for pair in pairs)
    after = runs[1].records_at(_offset(pair.after) for pair in pairs)
    for (kind, pair), question, old, new in zip(chosen, questions, before, after, strict=True):
        yield Flip(
            id=question.id,
            domain=pair.question.domain,
            task=question.task,
            kind=kind,
            question=question.text,
            options=question.options,
            gold=question.answer,
            before=_reply(old),
            after=_reply(new),
        )


def _offset(answer: PairedAnswer | None) -> int:
    return answer.offset if answer is not None else 0


def _reply(record: Record) -> FlipReply:
    given = set(record.passages)
    return FlipReply(
        status=record.status,
        correct=bool(record.correct),
        chosen=record.chosen,
        text=record.text,
        probabilities=_shares(record.logprobs),
        treatment=record.treatment,
        route=record.route,
        decided_by=record.decided_by,
        matched=record.matched,
        sources=tuple(_source(hit, given) for hit in record.retrieved),
        leak=record.leak,
    )


def _shares(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Probabilities of the options; none where a log-probability is not finite."""
    shares = probabilities(logprobs) if logprobs else []
    return tuple(round(p, 4) for p in shares) if all(map(isfinite, shares)) else ()


def _source(hit: Mapping[str, Any], given: set[str]) -> FlipPassage:
    score = hit.get("dense")
    return FlipPassage(
        str(hit.get("source", "")),
        str(hit.get("place", "")),
        score if score is not None else hit.get("score"),
        hit.get("id") in given,
    )


def _cut(flip: Flip) -> Flip:
    """Keep so much of each text that any number of flips fits into memory."""
    return replace(
        flip,
        question=_short(flip.question),
        options=tuple(_short(option, 1000) for option in flip.options[:_MOST_OPTIONS]),
        gold=flip.gold if isinstance(flip.gold, int) else _short(flip.gold),
        before=_shortened(flip.before),
        after=_shortened(flip.after),
    )


def _shortened(reply: FlipReply) -> FlipReply:
    return replace(
        reply,
        chosen=_short(reply.chosen) if isinstance(reply.chosen, str) else reply.chosen,
        text=None if reply.text is None else _short(reply.text),
        sources=reply.sources[:10],
        matched=reply.matched[:20],
    )


def _short(text: str, most: int = _MOST_TEXT) -> str:
    left = len(text) - most
    return text if left <= 0 else f"{text[:most]} … ({left:,} more characters)"
