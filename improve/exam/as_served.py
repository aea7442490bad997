"""The exam as a person would ask it: without options, in the chat template, written out.

An adapter that is proven by likelihoods can be useless in a chat, so what is served decides. A
reply is right where it holds the answer and none of the wrong options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.prompts import question_block
from benchmarks.runs.runner import EvalJob, EvalSettings, prepare_job
from benchmarks.runs.store import Record
from benchmarks.scoring.replies.numbers import number_of_words
from benchmarks.tasks.base import STOP, zero_shot_task
from benchmarks.treatments.plan import ORACLE, RoutingPolicy
from domainlift.text.normalise import contains_run, words
from domainlift.types import Question
from engines.base import Engine, EngineInfo, Mode
from ensemble.plan import DomainTreatment
from improve.exam.exam import Exam, ExamQuestion
from improve.exam.fact_finder import SPOKEN
from improve.options import RunOptions
from improve.plan_runner import PlanRunner
from improve.resources import open_resources
from improve.score import score_job

_MAX_TOKENS = 48
_IN_WORDS = re.compile(rf"\b{SPOKEN}(?: (?:hundred|thousand|million|billion))?\b", re.IGNORECASE)
#: By treatment, the records of an exam's questions.
ServedAnswers = dict[str, list["Record"]]


def served_answers(
    exam: Exam,
    split: str,
    engine: Engine,
    options: RunOptions,
    treatments: Mapping[str, Mapping[str, DomainTreatment]],
    routing: RoutingPolicy = ORACLE,
    mode: Mode = Mode.GENERATE,
) -> ServedAnswers:
    """Ask the questions of a split as they are served, by the base model and each treatment.

    With the mode `CLOZE` nothing is written: the likeliest option is the answer. Empty where the
    engine has no such mode, or no answer of any treatment is right: then the model cannot be asked
    so, and its answers tell treatments apart by nothing.
    """
    if mode not in engine.info.modes:
        return {}
    job = served_job(exam, split, engine.info, mode)
    part = f"as served, {split}" + (", likelihood" if mode is Mode.CLOZE else "")
    base = score_job(job, engine, options, part=f"{part}, base")
    runner = PlanRunner.from_base_run(job, lambda: engine, options, base)
    judged = partial(_judged, exam) if mode is Mode.GENERATE else list
    answers: ServedAnswers = {"base": judged(base.records())}
    for name, own in treatments.items():
        with open_resources(own, engine, options.workspace) as resources:
            run = runner.run(f"{part}, {name}", routing, own, resources)
        answers[name] = judged(run.records())
    any_right = any(record.correct for records in answers.values() for record in records)
    return answers if any_right else {}


def served_job(exam: Exam, split: str, info: EngineInfo, mode: Mode = Mode.GENERATE) -> EvalJob:
    """The questions of a split as they are served: the bare question is the user's turn."""
    chat, scored = info.has_chat_template, mode is Mode.CLOZE
    asked = [each for each in exam.asked if each.split == split]
    questions = tuple(_open(each, exam.name, chat=chat, scored=scored) for each in asked)
    task = zero_shot_task(
        f"as-served:{exam.name}",
        exam.name,
        questions,
        mode,
        stop=() if chat else STOP,
        max_tokens=_MAX_TOKENS,
        prerendered=True,
    )
    settings = EvalSettings(f"{exam.name}-as-served", mode=mode, shots=0, chat=chat)
    return prepare_job([task], settings, info)


def gives(reply: str, question: ExamQuestion) -> bool:
    """Whether a reply holds the right option and none of the wrong ones, numbers in any form."""
    said = words(_in_digits(reply))
    held = [each for each in question.options if contains_run(said, words(_in_digits(_bare(each))))]
    return held == [question.right]


def _in_digits(text: str) -> str:
    """The text with numbers in words written as digits."""
    return _IN_WORDS.sub(lambda found: number_of_words(found[0]) or found[0], text)


def _judged(exam: Exam, records: Sequence[Record]) -> list[Record]:
    """The records with what `gives` says of their replies; errors stay unanswered."""
    by_id = {_task_id(exam.name, each): each for each in exam.questions}
    return [
        record
        if record.text is None
        else replace(record, correct=gives(record.text, by_id[record.id]), status="ok")
        for record in records
    ]


def _bare(option: str) -> str:
    """An option without its article."""
    first, _, rest = option.partition(" ")
    return rest if first.lower() in ("a", "an", "the") and rest else option


def _task_id(domain: str, each: ExamQuestion) -> str:
    """The id of the question in the exam's file of questions, which the loop asks."""
    return f"{domain}.jsonl/{each.id}"


def _open(each: ExamQuestion, domain: str, *, chat: bool, scored: bool) -> Question:
    text = each.question if chat else question_block(each.question)
    options = each.options if chat else tuple(f" {option}" for option in each.options)
    return Question(
        _task_id(domain, each),
        domain,
        f"as-served:{domain}",
        text,
        options if scored else (),
        each.answer if scored else each.right,
        each.fact,
        support=each.support,
    )
