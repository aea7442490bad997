"""What the base model knows without any passage: facts that an exam sets aside.

A fact is known where its probe, a wording that is never examined, is answered right in several
forms: by the likelihood of the options, and by letters in two orders. Luck gives that to one fact
of 64, and because other wordings are examined, luck with a probe does not lower the base model's
score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.runs.runner import EvalSettings, prepare_job
from benchmarks.tasks.base import ALL_MODES, zero_shot_task
from domainlift.types import Question
from engines.base import Engine, Mode
from improve.exam.exam import Exam, ExamQuestion, facts_of
from improve.options import RunOptions
from improve.score import score_job

#: Ways in which a probe is asked: the mode, and by how many places its options are moved on.
_WAYS = ((Mode.CLOZE, 0), (Mode.LETTER, 0), (Mode.LETTER, 1))


def mark_known(exam: Exam, engine: Engine, options: RunOptions) -> Exam:
    """Ask the probes without passages, and mark the questions of the facts that are known."""
    probes = [own[0] for own in map(_probes, facts_of(exam.questions).values()) if own]
    known = {each.fact for each in probes}
    for mode, moved in _WAYS:
        if mode in engine.info.modes and probes:
            known &= _right(exam.name, probes, mode, moved, engine, options)
    questions = tuple(replace(each, known=each.fact in known) for each in exam.questions)
    return replace(exam, questions=questions, known_by=engine.info.digest)


def _probes(questions: Sequence[ExamQuestion]) -> list[ExamQuestion]:
    """The wordings of a fact that are not examined."""
    return [each for each in questions if not each.is_examined]


def _right(
    name: str,
    probes: Sequence[ExamQuestion],
    mode: Mode,
    moved: int,
    engine: Engine,
    options: RunOptions,
) -> set[str]:
    """The facts whose probes are answered right."""
    questions = tuple(_as_question(each, name, moved) for each in probes)
    task = zero_shot_task(f"probes:{name}", name, questions, mode, ALL_MODES)
    suite = f"{name}-probes"
    job = prepare_job([task], EvalSettings(suite, mode=mode, shots=0), engine.info)
    run = score_job(
        job, engine, options, part=f"what is known, {mode.value} {moved + 1}", letter_prior=False
    )
    facts = {question.id: probe.fact for question, probe in zip(questions, probes, strict=True)}
    return {facts[record.id] for record in run.records() if record.correct}


def _as_question(probe: ExamQuestion, name: str, moved: int) -> Question:
    count = len(probe.options)
    order = [(place + moved) % count for place in range(count)]
    return Question(
        f"{probe.id}/{moved}",
        name,
        f"probes:{name}",
        probe.question,
        tuple(probe.options[place] for place in order),
        order.index(probe.answer),
        cluster=probe.fact,
    )
