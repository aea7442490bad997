"""The rule of each trigger, and what follows: a pure function of what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from improve.versions.decision_log import Signal
from watch.observe import Observed

#: The pause after a look that failed; it doubles with each, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(hours=1), timedelta(days=7)


class Action(StrEnum):
    """What a look does."""

    NOTHING = "nothing"
    CHALLENGE = "challenge"
    SYNC = "sync"
    JUDGE = "judge"
    PROMISE = "promise"
    LOOK = "look"


@dataclass(frozen=True)
class Limits:
    """From which score on each trigger fires: counts of what is new, and days."""

    documents: int = 1
    questions: int = 20
    rows: int = 100
    feedback: int = 10
    days: float = 7.0


@dataclass(frozen=True)
class NextStep:
    """An action, why, and what every trigger says; what it uses up if it comes to nothing.

    A step that is `paused` stands in the place of one that failed before.
    """

    action: Action
    reason: str
    triggers: Mapping[str, Signal]
    uses: tuple[str, ...] = ()
    paused: bool = False


def decide(seen: Observed, now: datetime, limits: Limits = Limits()) -> NextStep:
    """Decide what a look does, by the first of the conditions below that holds.

    What came to nothing before does not fire again until it changes. While a step that failed is
    to be tried again later, the probe set is asked when it is due.
    """
    step = _step(seen, _triggers(seen, now, limits))
    pause = _pause(seen, now)
    if step.action is Action.NOTHING or not pause:
        return step
    failing = step.action in (Action.CHALLENGE, Action.SYNC) and not seen.base_changed
    if failing and step.triggers["age"].fired:
        return replace(step, action=Action.LOOK, uses=(), paused=True)
    hours = pause.total_seconds() / 3600
    why = f"{step.reason}; {seen.failures} looks failed: a pause of {hours:.1f} hours more"
    return NextStep(Action.NOTHING, why, step.triggers, paused=True)


def _step(seen: Observed, triggers: Mapping[str, Signal]) -> NextStep:
    def choose(action: Action, reason: str, *uses: str) -> NextStep:
        return NextStep(action, reason, triggers, tuple(map(seen.digest, uses)))

    if seen.switched_off:
        return choose(Action.NOTHING, f"switched off: {seen.switched_off}")
    if seen.version is None:
        return choose(Action.NOTHING, "no version is served: `bench improve` makes one")
    name = seen.version.name
    if seen.base_changed and not triggers["base"].fired:
        model = seen.version.model
        why = f"`{model}` is not the model of `{name}` any more, and nothing as good was made of it"
        return choose(Action.NOTHING, f"{why}: restore the model")
    if seen.base_changed:
        return choose(Action.CHALLENGE, f"the base model of `{name}` is another one now", "base")
    if not seen.promised:
        return choose(Action.PROMISE, f"`{name}` was not asked since it was promoted")
    if seen.challenger is not None:
        return choose(Action.JUDGE, f"`{seen.challenger.name}` is on trial")
    if seen.halved:
        lost = ", ".join(seen.halved)
        why = f"most documents of {lost} are gone, which is often an accident; nothing was changed"
        action = Action.LOOK if triggers["age"].fired else Action.NOTHING
        return choose(action, f"{why}: `bench kb sync {seen.halved[0]} --delete` if not")
    if triggers["documents"].fired:
        changed = ", ".join(f"{count} of {each}" for each, count in seen.changed.items() if count)
        return choose(Action.SYNC, f"documents changed: {changed}", "documents")
    if fired := [each for each in ("questions", "rows", "feedback") if triggers[each].fired]:
        new = ", ".join(f"{triggers[each].score:g} {each}" for each in fired)
        return choose(Action.CHALLENGE, f"new: {new}", "material")
    if triggers["age"].fired:
        return choose(Action.LOOK, f"`{name}` was last asked {triggers['age'].score:.1f} days ago")
    return choose(Action.NOTHING, "nothing has changed")


def _triggers(seen: Observed, now: datetime, limits: Limits) -> dict[str, Signal]:
    def signal(score: float, threshold: float, used: str = "") -> Signal:
        fires = score >= threshold and not (used and seen.digest(used) in seen.used)
        return Signal(round(score, 3), threshold, fires)

    age = (now - seen.looked).total_seconds() / 86400 if seen.looked is not None else 0.0
    return {
        "base": signal(float(seen.base_changed), 1, "base"),
        "documents": signal(sum(seen.changed.values()), limits.documents, "documents"),
        "gone": signal(max(seen.gone.values(), default=0.0), 0.5),
        "questions": signal(seen.questions, limits.questions),
        "rows": signal(seen.rows, limits.rows),
        "feedback": signal(seen.corrections, limits.feedback),
        "age": signal(max(0.0, age), limits.days),
    }


def _pause(seen: Observed, now: datetime) -> timedelta:
    """What is left of the pause after looks that failed."""
    if not seen.failures or seen.failed is None:
        return timedelta()
    pause: timedelta = min(FIRST_PAUSE * 2.0 ** min(seen.failures - 1, 10), LONGEST_PAUSE)
    return max(timedelta(), seen.failed + pause - now)
