"""Forms in which a question with options can be asked, and the choice among those that were tried.

A model may know an answer and fail to say it in one form: small models know more in cloze form
than by letters, and most know more after a few examples (Gu et al. 2024, OLMES, arXiv 2406.08446).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.runs.store import RunManifest

#: Examples before a question, in the forms that are tried.
SHOTS = (0, 5)
#: Questions after each round of a choice. A form that is shown to be worse than another one, at
#: the level of `WORSE_ALPHA`, is asked no more; `QUESTIONS` is where a loop stops.
ROUNDS, QUESTIONS, WORSE_ALPHA = (40, 100, 200, 400), 100, 0.05


@dataclass(frozen=True)
class FormScore:
    """A form on the validation questions that were answered; `tokens` are per question."""

    accuracy: float
    n: int
    tokens: float


@dataclass(frozen=True)
class RunForm:
    """The form of a run, and the scores of all that were tried where it was chosen.

    `name` is "mixed" and `shots` None where the tasks are not all asked alike.
    """

    name: str
    shots: int | None
    tried: Mapping[str, FormScore]


def ranked_forms(tried: Mapping[str, FormScore]) -> list[tuple[str, FormScore]]:
    """The forms as they came out: those that were asked longest first, of these the best."""
    return sorted(tried.items(), key=lambda item: (-item[1].n, *_rank(item[1])))


def best_form(tried: Mapping[str, FormScore]) -> str:
    """The form with the highest accuracy; of equal ones the one with the fewest tokens.

    The better one is taken even where these questions do not show that it is better: it is the
    likelier one to be so, and whichever is taken, what is reported is asked of other questions.
    """
    return min(tried, key=lambda form: _rank(tried[form]))


def _rank(score: FormScore) -> tuple[float, float]:
    return -score.accuracy, score.tokens


def form_of(manifest: RunManifest) -> RunForm | None:
    """The form that a run's manifest tells; None where it tells none."""
    settings = manifest.settings
    ways = {(way["scoring"], way["shots"]) for way in settings.get("tasks", {}).values()}
    if not ways:
        return None
    name, shots = ways.pop() if len(ways) == 1 else ("mixed", None)
    if name == "letter" and settings.get("chat"):
        name = "chat"
    tried = {form: FormScore(**score) for form, score in manifest.tried_forms.items()}
    return RunForm(name, shots, tried)
