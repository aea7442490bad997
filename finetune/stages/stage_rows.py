"""Rows of a stage, and what must be there before a chain begins."""

from __future__ import annotations

from domainlift.errors import Misuse
from finetune.data.rows import Row
from finetune.distributed.process_group import from_environment
from finetune.jobs import TrainingJob, prepared_rows
from finetune.rewards.judge import Judge
from finetune.stages.stage_settings import BY_MODEL, REINFORCEMENT, REWARD_MODEL, SFT

#: Fewer could not show that a reward model is better than chance.
_LEAST_PAIRS = 10


def check_chain(job: TrainingJob) -> None:
    """Raise Misuse where a stage after `sft` could not begin, before anything is trained."""
    stages = [stage for stage in job.recipe.stages if stage != SFT]
    if stages and from_environment().size > 1:
        raise Misuse("stages after `sft` run in one process", "train without a launcher")
    for place, stage in enumerate(stages):
        settings, is_pairs = job.recipe.settings_of(stage), stage not in REINFORCEMENT
        held_out = len(stage_rows(job, True, "validation"))
        if stage == REWARD_MODEL and held_out < _LEAST_PAIRS:
            what = f"stage `{stage}` is judged by {_LEAST_PAIRS} validation pairs or more"
            raise Misuse(f"{what}, and there are {held_out}", "prepare more pairs")
        if not stage_rows(job, is_pairs, "train", settings.reward):
            what, keys = (
                ("pairs", "chosen, rejected") if is_pairs else ("rows", "prompt, completion")
            )
            raise Misuse(
                f"stage `{stage}` has no {what} to train on",
                f"`bench data prepare {job.name} --file PATH` with the keys {keys}",
            )
        if is_pairs:
            continue
        if settings.batch % settings.generations:
            what = f"`batch` {settings.batch} is no multiple of `generations`"
            raise Misuse(f"{what} {settings.generations}", "each prompt gets so many replies")
        if not settings.reward:
            hint = f"`--set {stage}.reward=exact`, or choice, countdown, tests, FILE.py:FUNCTION"
            raise Misuse(f"stage `{stage}` has no reward", hint)
        if settings.reward == BY_MODEL:
            if REWARD_MODEL not in stages[:place]:
                what = f"`{stage}.reward` is `{BY_MODEL}`, and no stage before it makes one"
                raise Misuse(what, f"`--stages sft,{REWARD_MODEL},{stage}`")
            continue
        with Judge(settings.reward):
            pass


def stage_rows(job: TrainingJob, pairs: bool, split: str, reward: str = "") -> list[Row]:
    """The pairs among the prepared rows, or the others; no stage runs the tools of a trace.

    A reward model needs no reference, so it takes the prompts of pairs where there are no others.
    """
    every = [row for rows in prepared_rows(job, split).values() for row in rows if not row.chain]
    found = [row for row in every if bool(row.rejected) is pairs]
    return every if not found and reward == BY_MODEL else found
