"""Steps of a stage that fit into its share of the chain's budget.

Each stage gets an equal share of what those before it left, so that what one does not need is left
to the next. The number is decided once, before the first step, since the rate falls along it.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from domainlift.files import write_json
from finetune.stages.trainers import StageJob, steps_asked

#: Steps that are taken, and thrown away, to measure one.
_PROBES = 3


@dataclass(frozen=True)
class FittedSteps:
    """How many of the steps that were asked for fit, and the seconds of one and of the share.

    `measuring` took so many seconds of it.
    """

    steps: int
    asked: int
    each: float
    share: float
    measuring: float

    def job(self, work: StageJob) -> StageJob:
        """The stage with the steps that fit."""
        return replace(work, settings=replace(work.settings, steps=self.steps))

    @property
    def lack(self) -> str:
        """Why the stage was left out."""
        return (
            f"was left out: one step takes {self.each:.3g} s, and its budget is {self.share:.3g} s"
        )

    def least_minutes(self, stages: int) -> float:
        """The least budget of a chain of so many stages in which this one is not left out."""
        return math.ceil(100 * (1 + _PROBES) * self.each * stages / 60) / 100


def fit_steps(
    work: StageJob, share: float, probe: Callable[[StageJob], list[float]], folder: Path
) -> FittedSteps:
    """Decide how many steps a stage takes in `share` seconds, or read what was decided before.

    What measuring took is a part of the share.
    """
    path = folder / f"steps-{work.stage}.json"
    if path.is_file():
        return FittedSteps(**json.loads(path.read_text(encoding="utf-8")))
    asked, apart = steps_asked(work), folder / f"trl-{work.stage}-probe"
    few = replace(work, settings=replace(work.settings, steps=_PROBES), folder=apart)
    spent = probe(few)
    shutil.rmtree(apart, ignore_errors=True)
    each, measuring = min(spent), sum(spent)
    fitting = max(0, int((share - measuring) / each))
    found = FittedSteps(min(asked, fitting), asked, each, share, measuring)
    write_json(path, asdict(found))
    return found
