"""What stands behind the endpoints beside OpenAI's: feedback on a reply, and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from domainlift.errors import NoSuch
from improve.feedback.marks import FeedbackMark, FeedbackStore, count_marks
from improve.feedback.reply_log import ReplyLog
from improve.versions.decision_log import Decision, DecisionLog
from serving.prometheus import Sample
from serving.request_fields import RequestRefused

_ID_LENGTH = 24


def mark_reply(workspace: Path, body: Mapping[str, object]) -> FeedbackMark:
    """Mark the reply of a request `{"id", "verdict", "correction"}`; RequestRefused otherwise."""
    unknown = sorted(body.keys() - {"id", "verdict", "correction"})
    if unknown:
        raise RequestRefused(f"the field `{unknown[0]}` is not known", unknown[0])
    texts = {key: body.get(key) or "" for key in ("id", "verdict", "correction")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise RequestRefused(f"`{key}` must be a text", key)
    id_ = str(texts["id"]).rpartition("-")[2]
    # A stranger to the ids could otherwise mark whatever was said last.
    if len(id_) != _ID_LENGTH:
        raise RequestRefused("`id` is not that of a reply", "id", status=404)
    try:
        reply = ReplyLog(workspace).get(id_)
    except NoSuch:
        what = "the reply is not kept any more"
        raise RequestRefused(what, "id", status=404) from None
    try:
        return FeedbackStore(workspace).add(reply, str(texts["verdict"]), str(texts["correction"]))
    except NoSuch as error:
        raise RequestRefused(f"{error.what}: right or wrong", "verdict") from error


def stored_samples(workspace: Path, version: str, plan: str) -> Iterator[Sample]:
    """The figures that are read from the workspace: what is served, and the marks on replies."""
    labels = (("version", version), ("plan", plan))
    yield Sample("domainlift_version_info", 1, labels)
    decisions = _decisions(workspace)
    for word, n in sorted(Counter(each.decision for each in decisions).items()):
        yield Sample("domainlift_decisions", n, (("decision", word),))
    looks = [each.probe for each in decisions if each.probe is not None]
    for look in looks[-1:]:
        own = (("version", look.version),)
        yield Sample("domainlift_probe_accuracy", look.accuracy, own)
        yield Sample("domainlift_probe_accuracy_low", look.interval[0], own)
        yield Sample("domainlift_probe_accuracy_high", look.interval[1], own)
    for (verdict, state), n in sorted(count_marks(FeedbackStore(workspace).marks()).items()):
        yield Sample("domainlift_feedback", n, (("verdict", verdict), ("state", state)))


def _decisions(workspace: Path) -> Sequence[Decision]:
    """The watch's log, which a year makes long: it is read again only where it has grown."""
    path = DecisionLog(workspace).path
    return _read_decisions(workspace, path.stat().st_size) if path.exists() else ()


@lru_cache(maxsize=1)
def _read_decisions(workspace: Path, _: int) -> Sequence[Decision]:
    return DecisionLog(workspace).decisions()
