"""Generation of a synthetic textbook: texts about passages, checked, and resumed where it stopped.

First everything is written, then every piece that its words do not rule out is measured. Each
reply and each measure is kept before the next comes in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.scoring.replies.thoughts import separate_thought
from domainlift.files import text_sha256
from domainlift.text.contamination import QuestionIndex, contaminated_rows
from domainlift.text.normalise import words
from domainlift.types import Passage
from engines.base import Answer, Engine, EngineInfo, Mode, Prompt, Request, Status
from finetune.data.rows import Row
from finetune.synthetic.generation_log import GenerationLog, LoggedReply
from finetune.synthetic.grounding import (
    NONE,
    OTHER,
    OWN,
    SETTINGS,
    SHUFFLED,
    GroundingLimits,
    PieceLogprob,
    continuation_of,
    shuffled,
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
from finetune.synthetic.text_faults import text_fault

#: Why a reply could not be had, by passage and kind.
Failed = dict[tuple[str, str], str]
#: Called with what is being done and how many of how many pieces of it are done.
Progress = Callable[[str, int, int], None]
#: What a reply may have besides twice the tokens of the passage, and the least worth asking for.
_MORE, _LEAST = 64, 48
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
    """The rows, the yield of each kind, and what made them: passages, model, prompts, journal.

    `kept` are the texts that rows were made of, by passage.
    """

    rows: tuple[Row, ...]
    kept: Mapping[str, Sequence[GeneratedText]]
    yields: Mapping[str, KindStats]
    origin: Mapping[str, Any]
    passages: int
    journal: Path
    checked: bool


@dataclass(frozen=True)
class SynthesisJob:
    """The passages to write about, and their domain.

    Without `checked`, or where the engine gives no log-probability of a text, pieces are judged by
    their words alone. Wordings of questions that will be `asked` are rejected. `kinds` are names of
    `KINDS`.
    """

    domain: str
    excerpts: Sequence[Excerpt]
    checked: bool = True
    asked: QuestionIndex | None = None
    kinds: tuple[str, ...] = tuple(KINDS)
    limits: GroundingLimits = field(default_factory=GroundingLimits)


def synthesize(
    job: SynthesisJob, engine: Engine, folder: Path, progress: Progress
) -> SyntheticTextbook:
    """Write the textbook of some passages; what `folder` holds already is not asked again."""
    job = replace(job, checked=job.checked and Mode.CLOZE in engine.info.modes)
    origin = origin_of(engine.info)
    name = text_sha256(json.dumps(origin, sort_keys=True))[:12]
    journal = GenerationLog(folder / f"{name}.jsonl", origin)
    with journal.writing():
        failed = _write(job, engine, journal, progress)
        judged = _judged(job, journal)
        if job.checked:
            _measure(job, judged, engine, journal, progress)
    return _textbook(job, judged, journal, failed)


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


# --- writing


def _write(job: SynthesisJob, engine: Engine, journal: GenerationLog, progress: Progress) -> Failed:
    """Ask for what is not there yet; return what could not be had, and why."""
    requests: list[Request] = []
    keys: dict[str, tuple[str, str]] = {}
    failed: Failed = {}
    for excerpt in job.excerpts:
        for kind in job.kinds:
            key = excerpt.passage.id, kind
            if key in journal.replies:
                continue
            request = _request(kind, excerpt, engine)
            if request is None:
                failed[key] = "beyond the context"
            else:
                requests.append(request)
                keys[request.id] = key
    for answer in _answers(engine, requests, "writing", progress):
        if answer.status is Status.OK and answer.text is not None:
            journal.reply(LoggedReply(*keys[answer.id], answer.text, not answer.cut_off))
        else:
            failed[keys[answer.id]] = "not answered"
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
class _Judged:
    """A piece about a passage, and what is wrong with its words."""

    excerpt: Excerpt
    piece: GeneratedText
    fault: str

    def key(self, setting: str) -> tuple[str, str, str]:
        """Under which its log-probability in a setting is kept."""
        return self.excerpt.passage.id, self.piece.id, setting


def _measure(
    job: SynthesisJob,
    judged: Sequence[_Judged],
    engine: Engine,
    journal: GenerationLog,
    progress: Progress,
) -> None:
    """Read every piece that its words do not rule out, where that is not done yet."""
    settings = {
        excerpt.passage.id: _settings(job.excerpts, place)
        for place, excerpt in enumerate(job.excerpts)
    }
    requests: list[Request] = []
    read: dict[str, tuple[_Judged, str]] = {}
    for each in (each for each in judged if not each.fault):
        for setting, passages in settings[each.excerpt.passage.id].items():
            if each.key(setting) not in journal.measures:
                requests.append(_reading(each, setting, passages))
                read[requests[-1].id] = each, setting
    for answer in _answers(engine, requests, "checking", progress):
        if answer.status is Status.OK and answer.logprobs:
            each, setting = read[answer.id]
            tokens = max(1, engine.count(f" {each.piece.text}"))
            reading = PieceLogprob(round(answer.logprobs[0], 6), tokens)
            journal.measure(each.key(setting), reading)


def _settings(excerpts: Sequence[Excerpt], place: int) -> dict[str, list[Passage]]:
    """What stands before a piece in each setting; the other passage is half of all away."""
    own, other = excerpts[place].passage, excerpts[(place + len(excerpts) // 2) % len(excerpts)]
    settings = {OWN: [own], NONE: [], SHUFFLED: [shuffled(own)]}
    return settings if other.passage.id == own.id else {**settings, OTHER: [other.passage]}


def _reading(judged: _Judged, setting: str, passages: Sequence[Passage]) -> Request:
    """The request for the log-probability of a piece in one setting."""
    prompt = Prompt(continuation_of(judged.piece, judged.excerpt, passages))
    return Request("/".join(judged.key(setting)), Mode.CLOZE, prompt, (f" {judged.piece.text}",))


def _judged(job: SynthesisJob, journal: GenerationLog) -> list[_Judged]:
    """All pieces, each with what is wrong with it before anything is measured."""
    judged = [each for excerpt in job.excerpts for each in _by_words(journal, excerpt, job.kinds)]
    if job.asked is None:
        return judged
    texts = [f"{each.piece.question}\n{each.piece.text}" for each in judged]
    leaks = contaminated_rows(texts, job.asked)
    return [
        replace(each, fault=each.fault if each.fault or not leaks_ else "asked in a benchmark")
        for each, leaks_ in zip(judged, leaks, strict=True)
    ]


def _by_words(journal: GenerationLog, excerpt: Excerpt, kinds: Sequence[str]) -> Iterator[_Judged]:
    """The pieces about a passage; a wording counts once."""
    told: set[tuple[str, ...]] = set()
    for kind in kinds:
        reply = journal.replies.get((excerpt.passage.id, kind))
        if reply is not None:
            for piece in pieces_of(kind, reply.text, reply.whole):
                wording = tuple(words(f"{piece.question} {piece.text}"))
                fault = text_fault(piece, excerpt)
                yield _Judged(excerpt, piece, fault or ("told already" if wording in told else ""))
                told.add(wording)


# --- what came of it


def _textbook(
    job: SynthesisJob, judged: Sequence[_Judged], journal: GenerationLog, failed: Failed
) -> SyntheticTextbook:
    kept: dict[str, list[GeneratedText]] = {excerpt.passage.id: [] for excerpt in job.excerpts}
    rejected: dict[str, Counter[str]] = {kind: Counter() for kind in job.kinds}
    for each in judged:
        reason = each.fault or (_unproven(job, journal, each) if job.checked else "")
        if reason:
            rejected[each.piece.kind][reason] += 1
        else:
            kept[each.excerpt.passage.id].append(each.piece)
    for (_, kind), reason in failed.items():
        rejected[kind][reason] += 1
    rows = [row for e in job.excerpts for row in rows_of(e, kept[e.passage.id], job.domain)]
    good = Counter(piece.kind for pieces in kept.values() for piece in pieces)
    count = len(job.excerpts)
    yields = {kind: _yield(count, good[kind], rejected[kind]) for kind in job.kinds}
    return SyntheticTextbook(
        tuple(rows), kept, yields, journal.origin, count, journal.path, job.checked
    )


def _unproven(job: SynthesisJob, journal: GenerationLog, each: _Judged) -> str:
    keys = {setting: each.key(setting) for setting in SETTINGS}
    readings = {s: journal.measures[key] for s, key in keys.items() if key in journal.measures}
    return ungrounded(each.piece, readings, job.limits)


def _yield(asked: int, kept: int, rejected: Counter[str]) -> KindStats:
    return KindStats(asked, kept + rejected.total(), kept, dict(sorted(rejected.items())))
