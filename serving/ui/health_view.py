"""Page of an assistant's health: versions, drops and decisions over time, and what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute

from benchmarks.runs.store import RunStore
from domainlift.errors import BenchError
from domainlift.stats.intervals import Interval
from improve.feedback.drift import AskedQuestion, exam_questions, find_drift, served_questions
from improve.feedback.marks import FeedbackStore, count_marks
from improve.feedback.reply_log import ReplyLog
from improve.versions.decision_log import Decision, DecisionLog
from improve.versions.version import State, Version, champion_of
from improve.versions.version_log import VersionRegistry
from reports.health import EVENT_SIGNS, HealthEvent, HealthPoint, health_chart
from serving.ui.pages import Pages

_MOST_EVENTS = 60


def health_routes(pages: Pages) -> list[BaseRoute]:
    """The page."""
    return [pages.get("/health", _HealthView(pages).page)]


@dataclass(frozen=True)
class _HealthView:
    pages: Pages

    def page(self, _: Mapping[str, str], __: Mapping[str, str]) -> Response:
        workspace = self.pages.workspace
        versions = VersionRegistry(workspace).versions()
        champion = champion_of(versions)
        points, events = version_history(versions)
        looks, decided = watch_history(DecisionLog(workspace).decisions())
        points, events = [*looks, *points], [*events, *decided]  # versions are drawn on top
        events.sort(key=lambda each: each.when, reverse=True)
        replies = ReplyLog(workspace).newest()
        served = served_questions(replies)
        return self.pages.show(
            "health",
            here="/health",
            champion=champion,
            chart=health_chart(points, events),
            points=points,
            events=events[:_MOST_EVENTS],
            signs=EVENT_SIGNS,
            served=len(served),
            drift=find_drift(served, _exam(champion, workspace)),
            marks=count_marks(FeedbackStore(workspace).marks()),
        )


def version_history(versions: Sequence[Version]) -> tuple[list[HealthPoint], list[HealthEvent]]:
    """The accuracies that versions were promoted by, and what became of each.

    That one takes the place of another is told once, of the new one.
    """
    points = [
        HealthPoint(
            each.created,
            each.name,
            each.evidence.accuracy,
            Interval(*each.evidence.interval),
            each.evidence.n,
        )
        for each in versions
        if each.evidence.accuracy is not None and each.evidence.interval is not None
    ]
    events = [
        HealthEvent(move.when, move.state.value, each.name, f"by {move.by}: {move.why}")
        for each in versions
        for before, move in zip((None, *each.moves), each.moves, strict=False)
        if (before.state if before else None, move.state) != (State.CHAMPION, State.ARCHIVED)
    ]
    return points, events


def watch_history(decisions: Sequence[Decision]) -> tuple[list[HealthPoint], list[HealthEvent]]:
    """The probe looks of the watch, and what it found that changed no version's state."""
    points, events = [], []
    for each in decisions:
        look = each.probe
        if look is not None:
            shares = (look.accuracy, Interval(*look.interval), look.n)
            points.append(HealthPoint(each.when, look.version, *shares, probe=True))
        kind = each.decision if each.decision in ("reject", "challenge") else ""
        if look is not None and look.seen:
            kind = "drop"
        kind = "failed" if each.error else kind
        if kind:
            name = look.version if look is not None else each.challenger or each.version or ""
            events.append(HealthEvent(each.when, kind, name, f"by watch: {each.reason}"))
    return points, events


def _exam(champion: Version | None, workspace: Path) -> Sequence[AskedQuestion]:
    """The questions that the champion was judged by; none where that run is gone."""
    if champion is None or not champion.evidence.candidate:
        return ()
    try:
        return exam_questions(RunStore(workspace).get(champion.evidence.candidate).records())
    except BenchError:
        return ()
