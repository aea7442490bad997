"""Ask one task's questions under their treatments."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from benchmarks.prompts import Format, Prompter
from benchmarks.scoring import score
from benchmarks.store import Record
from benchmarks.tasks.base import Task
from domainlift.errors import BenchError
from domainlift.questions import Passage, Question, Treatment
from engines.base import Answer, Engine, Mode, Request, Status

# What a chat template may add around one message.
_TURN_TOKENS = 16


def ask(
    task: Task,
    form: Format,
    treated: Sequence[tuple[Question, Treatment]],
    engine: Engine,
    base: Mapping[str, Record] | None = None,
) -> Generator[Record, None, None]:
    """Yield a record per question, each as soon as it is known.

    A question that its treatment leaves alone has the prompt of a base run, and so its answer:
    where `base` has it, it is taken from there.
    """
    prompter = Prompter(task, form)
    requests: list[Request] = []
    known: dict[str, tuple[Question, Treatment]] = {}
    for question, treatment in treated:
        before = _untouched(question, treatment, base)
        if before is not None:
            yield before
            continue
        request, fitted = fit(prompter, question, treatment, engine)
        requests.append(request)
        known[question.id] = question, fitted
    requests.sort(key=_prefix_order)
    # Closed at once on Ctrl-C or an error, so that requests under way do not hold up the end.
    with closing(engine.answer(requests)) as answers:
        for answer in answers:
            question, treatment = known.pop(answer.id)
            yield _record(question, treatment, answer, form.mode)
    if known:
        raise BenchError(f"the engine left {len(known)} questions of `{task.name}` unanswered")


def fit(
    prompter: Prompter, question: Question, treatment: Treatment, engine: Engine
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


def _untouched(
    question: Question, treatment: Treatment, base: Mapping[str, Record] | None
) -> Record | None:
    """The base run's record of a question that gets neither passages nor an adapter."""
    if base is None or treatment.passages or treatment.adapter is not None:
        return None
    record = base.get(question.id)
    if record is None or record.status == Status.ERROR:
        return None
    return replace(record, seconds=0.0, **_treatment(treatment))


def _prefix_order(request: Request) -> tuple[str, list[str], str]:
    """Neighbours share the most text, so that a server's prefix cache hits."""
    prompt = request.prompt
    adapter = prompt.adapter if prompt.adapter is not None else ""
    return adapter, [message.content for message in prompt.messages], prompt.text


def _record(question: Question, treatment: Treatment, answer: Answer, mode: Mode) -> Record:
    scored = score(question, answer, mode)
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
        floored=answer.floored,
        text=answer.text,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        seconds=round(answer.seconds, 6),
        error=answer.error,
        **_treatment(treatment),
    )


def _treatment(treatment: Treatment) -> dict[str, Any]:
    """What a record says of the treatment; the passages' texts stay in the knowledge base."""
    return {
        "treatment": treatment.reason,
        "passages": tuple(passage.id for passage in treatment.passages),
        "found": tuple(_found(passage) for passage in treatment.found),
        "leak": treatment.leak,
    }


def _found(passage: Passage) -> dict[str, Any]:
    keys = ("id", "source", "place", "score", "dense", "bm25")
    return {key: getattr(passage, key) for key in keys}
