"""Generation of a synthetic textbook: texts about passages, checked, and resumed where it stopped.

First everything is written, then every piece that its words do not rule out is measured. Each
reply and each measure is kept before the next comes in.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.scoring.replies.thoughts import separate_thought
from domainlift.errors import Misuse
from domainlift.types import Passage
from engines.base import Answer, Engine, EngineInfo, Mode, Prompt, Request, Status
from finetune.data.rows import Row
from finetune.synthetic.generation_log import GenerationLog, LoggedMeasure, LoggedReply
from finetune.synthetic.grounding import (
    NONE,
    OTHER,
    OWN,
    GroundingLimits,
    PieceLogprobs,
    continuation_of,
    parts_of,
    text_fault,
    ungrounded,
)
from finetune.synthetic.prompts import (
    KINDS,
    Excerpt,
    GeneratedText,
    pieces_of,
    prompt_of,
    prompts_digest,
    rows_of,
)

#: Why a reply could not be had, by passage and kind.
Failed = dict[tuple[str, str], str]
#: Called with what is being done and how many of how many pieces of it are done.
Progress = Callable[[str, int, int], None]
#: What a reply may have besides twice the tokens of the passage, and the least worth asking for.
_MORE, _LEAST = 96, 48
_TEMPLATE = 64  # what a chat template may add
_STOPS = ("\n\n\n", "<passages>", "</passages>")


@dataclass(frozen=True)
class KindStats:
    """Yield of one kind of text: replies requested, pieces in them, pieces kept, rejections."""

    asked: int
    pieces: int
    kept: int
    rejected: Mapping[str, int]


@dataclass(frozen=True)
class SyntheticTextbook:
    """The rows, the yield of each kind, and what made them: passages, model, prompts, journal."""

    rows: tuple[Row, ...]
    yields: Mapping[str, KindStats]
    origin: Mapping[str, Any]
    passages: int
    journal: Path
    checked: bool


@dataclass(frozen=True)
class SynthesisJob:
    """The passages to write about, and their domain.

    Without `checked`, pieces are judged by their words alone.
    """

    domain: str
    excerpts: Sequence[Excerpt]
    checked: bool = True
    limits: GroundingLimits = field(default_factory=GroundingLimits)


def synthesize(
    job: SynthesisJob, engine: Engine, folder: Path, progress: Progress
) -> SyntheticTextbook:
    """Write the textbook of some passages; what `folder` holds already is not asked again.

    Misuse where pieces are to be checked and the engine gives no log-probabilities of texts.
    """
    if job.checked:
        _need_probabilities(engine.info)
    origin = origin_of(engine.info)
    name = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:12]
    journal = GenerationLog(folder / f"{name}.jsonl", origin)
    with journal.writing():
        failed = _write(job, engine, journal, progress)
        if job.checked:
            _measure(job, engine, journal, progress)
    return _textbook(job, journal, failed)


def origin_of(info: EngineInfo) -> dict[str, Any]:
    """Fingerprint of the replies: the model, its options, and the version of the prompts."""
    return {
        "engine": info.engine,
        "model": info.model,
        "digest": info.digest,
        "options": dict(info.options),
        "chat": info.has_chat_template,
        "prompts": prompts_digest(),
    }


def _need_probabilities(info: EngineInfo) -> None:
    if Mode.CLOZE not in info.modes:
        raise Misuse(
            f"engine `{info.engine}` gives no log-probability of a text, so what `{info.model}` "
            "writes cannot be checked against the passage",
            "write in this process (`--model org/name`), or take what passes the simple checks: "
            "`--unchecked`",
        )


# --- writing


@dataclass(frozen=True)
class _WantedReply:
    """A reply that is requested of the model."""

    request: Request
    passage: str
    kind: str


def _write(job: SynthesisJob, engine: Engine, journal: GenerationLog, progress: Progress) -> Failed:
    """Ask for what is not there yet; return what could not be had, and why."""
    pending: dict[str, _WantedReply] = {}
    failed: Failed = {}
    for excerpt in job.excerpts:
        for kind in KINDS:
            key = excerpt.passage.id, kind
            if key in journal.replies:
                continue
            request = _request(kind, excerpt, engine)
            if request is None:
                failed[key] = "beyond the context"
            else:
                pending[request.id] = _WantedReply(request, *key)
    requests = [each.request for each in pending.values()]
    for answer in _answers(engine, requests, "writing", progress):
        one = pending[answer.id]
        if answer.status is Status.OK and answer.text is not None:
            journal.reply(_reply(one, answer))
        else:
            failed[one.passage, one.kind] = "not answered"
    return failed


def _request(kind: str, excerpt: Excerpt, engine: Engine) -> Request | None:
    """The request for one reply, as long as the context allows; None where it allows too little."""
    info = engine.info
    prompt = prompt_of(KINDS[kind], excerpt, chat=info.has_chat_template)
    wanted = round(KINDS[kind].length * engine.count(excerpt.passage.text)) + _MORE
    if info.context is not None:
        text = "".join([prompt.text, *(message.content for message in prompt.messages)])
        wanted = min(wanted, info.context - engine.count(text) - _TEMPLATE)
    if wanted < _LEAST:
        return None
    stops = () if prompt.messages else _STOPS
    name = f"{excerpt.passage.id}/{kind}"
    return Request(name, Mode.GENERATE, prompt, stop=stops, max_tokens=wanted)


def _reply(wanted: _WantedReply, answer: Answer) -> LoggedReply:
    opening = "" if wanted.request.prompt.messages else KINDS[wanted.kind].opening
    return LoggedReply(wanted.passage, wanted.kind, f"{opening}{answer.text}", not answer.cut_off)


def _answers(
    engine: Engine, requests: Sequence[Request], stage: str, progress: Progress
) -> Iterator[Answer]:
    if not requests:
        return
    progress(stage, 0, len(requests))
    with closing(engine.answer(requests)) as answers:
        for done, answer in enumerate(map(separate_thought, answers), 1):
            yield answer
            progress(stage, done, len(requests))


# --- checking


@dataclass(frozen=True)
class _Read:
    """A piece that is read in one setting."""

    request: Request
    passage: str
    piece: GeneratedText
    setting: str


def _measure(job: SynthesisJob, engine: Engine, journal: GenerationLog, progress: Progress) -> None:
    """Read every piece that its words do not rule out, where that is not done yet."""
    wanted: dict[str, _Read] = {}
    for place, excerpt in enumerate(job.excerpts):
        others = _control(job.excerpts, place)
        settings = {OWN: [excerpt.passage], NONE: [], **({OTHER: others} if others else {})}
        for piece, wrong in _judged(journal, excerpt):
            for setting, passages in settings.items():
                if not wrong and (excerpt.passage.id, piece.id, setting) not in journal.measures:
                    each = _reading(excerpt, piece, setting, passages)
                    wanted[each.request.id] = each
    requests = [each.request for each in wanted.values()]
    for answer in _answers(engine, requests, "checking", progress):
        if answer.status is Status.OK and answer.logprobs:
            each = wanted[answer.id]
            reading = _read(each.piece, answer, engine)
            journal.measure(LoggedMeasure(each.passage, each.piece.id, each.setting, reading))


def _reading(
    excerpt: Excerpt,
    piece: GeneratedText,
    setting: str,
    passages: Sequence[Passage],
) -> _Read:
    name = f"{excerpt.passage.id}/{piece.id}/{setting}"
    prompt = Prompt(continuation_of(piece, excerpt, passages))
    options = tuple(f" {part}" for part in parts_of(piece))
    return _Read(Request(name, Mode.CLOZE, prompt, options), excerpt.passage.id, piece, setting)


def _read(piece: GeneratedText, answer: Answer, engine: Engine) -> PieceLogprobs:
    tokens = tuple(max(1, engine.count(f" {part}")) for part in parts_of(piece))
    return PieceLogprobs(tuple(round(value, 6) for value in answer.logprobs), tokens, answer.greedy)


def _control(excerpts: Sequence[Excerpt], place: int) -> list[Passage]:
    """Another passage, half of all away: mostly of another document."""
    other = excerpts[(place + len(excerpts) // 2) % len(excerpts)].passage
    return [other] if other.id != excerpts[place].passage.id else []


def _judged(journal: GenerationLog, excerpt: Excerpt) -> Iterator[tuple[GeneratedText, str]]:
    """The pieces about a passage, each with what is wrong with its words."""
    for kind in KINDS:
        reply = journal.replies.get((excerpt.passage.id, kind))
        if reply is not None:
            for piece in pieces_of(kind, reply.text, reply.whole):
                yield piece, text_fault(piece, excerpt)


# --- what came of it


def _textbook(job: SynthesisJob, journal: GenerationLog, failed: Failed) -> SyntheticTextbook:
    kept: Counter[str] = Counter()
    rejected: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    rows: list[Row] = []
    for excerpt in job.excerpts:
        good = []
        for piece, wrong in _judged(journal, excerpt):
            reason = wrong or (_unproven(job, journal, excerpt, piece) if job.checked else "")
            if reason:
                rejected[piece.kind][reason] += 1
            else:
                good.append(piece)
        kept.update(piece.kind for piece in good)
        rows += rows_of(excerpt, good, job.domain)
    for (_, kind), reason in failed.items():
        rejected[kind][reason] += 1
    count = len(job.excerpts)
    yields = {kind: _yield(count, kept[kind], rejected[kind]) for kind in KINDS}
    return SyntheticTextbook(tuple(rows), yields, journal.origin, count, journal.path, job.checked)


def _unproven(
    job: SynthesisJob, journal: GenerationLog, excerpt: Excerpt, piece: GeneratedText
) -> str:
    keys = {setting: (excerpt.passage.id, piece.id, setting) for setting in (OWN, NONE, OTHER)}
    readings = {s: journal.measures[key] for s, key in keys.items() if key in journal.measures}
    return ungrounded(piece, readings, job.limits)


def _yield(asked: int, kept: int, rejected: Counter[str]) -> KindStats:
    return KindStats(asked, kept + rejected.total(), kept, dict(sorted(rejected.items())))
