"""Evaluation of one task: requests, fitting to the context, answers, records."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.store import Record
from benchmarks.scoring.letter_prior import LetterPrior
from benchmarks.scoring.replies.thoughts import separate_thought
from benchmarks.scoring.score import Score, score
from benchmarks.tasks.base import Task
from domainlift.errors import BenchError
from domainlift.types import Passage, Question, Treatment
from engines.base import Answer, Engine, Request, Status

#: Answers by question and by the digest of what was asked.
AnswerCache = Mapping[tuple[str, str], Record]
# What a chat template may add around one message.
_TURN_TOKENS = 16


def evaluate_task(
    task: Task,
    form: PromptFormat,
    treated: Sequence[tuple[Question, Treatment]],
    engine: Engine,
    known: AnswerCache | None = None,
    prior: LetterPrior | None = None,
) -> Generator[Record, None, None]:
    """Yield a record per question, each as soon as it is known.

    A request that `known` has an answer to is not made again, whatever the treatment was called.
    `prior` is that of the letters, for a form that divides it out.
    """
    prompter = PromptBuilder(task, form)
    requests: list[Request] = []
    open_: dict[str, tuple[Question, Treatment, str]] = {}
    for question, treatment in treated:
        request, fitted = fit_to_context(prompter, question, treatment, engine)
        digest = _digest(request, form.debias)
        before = known.get((question.id, digest)) if known is not None else None
        if before is not None:
            yield replace(before, **_treatment(fitted))
            continue
        requests.append(request)
        open_[question.id] = question, fitted, digest
    requests.sort(key=_prefix_order)
    # Closed at once on Ctrl-C or an error, so that requests under way do not hold up the end.
    with closing(engine.answer(requests)) as answers:
        for answer in map(separate_thought, answers):
            question, treatment, digest = open_.pop(answer.id)
            divisor = prior if form.debias else None
            scored = score(question, answer, form.mode, task.scorer, divisor)
            yield replace(_record(question, treatment, answer, scored), request_digest=digest)
    if open_:
        raise BenchError(f"the engine left {len(open_)} questions of `{task.name}` unanswered")


def answer_cache(records: Iterable[Record]) -> AnswerCache:
    """The requests that these records answer; those of one model only may be put together.

    Without errors, and without replies that an earlier version read.
    """
    kept = (r for r in records if r.request_digest and r.status != Status.ERROR)
    return {(r.id, r.request_digest): r for r in kept if r.text is None or r.extracted_by}


def fit_to_context(
    prompter: PromptBuilder, question: Question, treatment: Treatment, engine: Engine
) -> tuple[Request, Treatment]:
    """The request, with as many passages as the context holds; the last ones go first.

    The question itself is never cut: one that is too long without passages is left to the engine,
    which says so.
    """
    request = prompter.request(question, treatment)
    found = len(treatment.passages)
    while treatment.passages and not _fits(request, engine):
        left = treatment.passages[:-1]
        reason = f"rag: {len(left)} of {found} passages fit the context"
        reason += f", adapter {treatment.adapter}" if treatment.adapter is not None else ""
        treatment = replace(treatment, passages=left, reason=reason)
        request = prompter.request(question, treatment)
    return request, treatment


def _fits(request: Request, engine: Engine) -> bool:
    context = engine.info.context
    prompt = request.prompt
    texts = [message.content for message in prompt.messages] or [prompt.text]
    more = request.max_tokens + _TURN_TOKENS * len(prompt.messages)
    options = max(request.options, key=len, default="")
    # A token has a byte or more, so a short prompt needs no counting.
    if context is None or sum(map(_bytes, [*texts, options])) + more <= context:
        return True
    return sum(map(engine.count, [*texts, options])) + more <= context


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _digest(request: Request, debias: bool) -> str:
    """12 hexadecimal digits of everything that decides a score besides the model."""
    asked = (request.mode.value, request.prompt, request.options, request.stop, request.max_tokens)
    # The repr of a prompt leaves out tools, and of a turn all but its text.
    more = [request.prompt.tools, *(turn.extra for turn in request.prompt.messages)]
    parts = (*asked, *(["debiased"] if debias else []), *(more if any(more) else []))
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _prefix_order(request: Request) -> tuple[str, list[str], str]:
    """Neighbours share the most text, so that a server's prefix cache hits."""
    prompt = request.prompt
    adapter = prompt.adapter if prompt.adapter is not None else ""
    return adapter, [message.content for message in prompt.messages], prompt.text


def _record(question: Question, treatment: Treatment, answer: Answer, scored: Score) -> Record:
    return Record(
        id=question.id,
        domain=question.domain,
        task=question.task,
        status=scored.status.value,
        correct=scored.correct,
        chosen=scored.chosen,
        correct_raw=scored.correct_raw,
        logprobs=tuple(round(value, 6) for value in answer.logprobs),
        mass=None if answer.mass is None else round(answer.mass, 6),
        n_bounded=answer.n_bounded,
        text=answer.text,
        thought=answer.thought,
        extracted_by=scored.extracted_by,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        seconds=round(answer.seconds, 6),
        error=answer.error,
        refused=answer.refused,
        metrics={
            name: tuple(round(value, 6) for value in own) for name, own in scored.metrics.items()
        },
        **_treatment(treatment),
    )


def _treatment(treatment: Treatment) -> dict[str, Any]:
    """What a record says of the treatment; the passages' texts stay in the knowledge base."""
    return {
        "treatment": treatment.reason,
        "adapter": treatment.adapter,
        "passages": tuple(passage.id for passage in treatment.passages),
        "searched": treatment.searched,
        "retrieved": tuple(_retrieved(passage) for passage in treatment.retrieved),
        "leak": treatment.leak,
        "route": treatment.route,
        "decided_by": treatment.decided_by,
        "matched": treatment.matched,
    }


def _retrieved(passage: Passage) -> dict[str, Any]:
    keys = ("id", "source", "place", "score", "dense", "bm25")
    return {key: getattr(passage, key) for key in keys}
