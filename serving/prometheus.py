"""Counters of a running server, in the text format of Prometheus."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.streaming import ReplyDelta
from serving.assistant import NOT_FOUND, PreparedReply

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Upper ends of the buckets of seconds: from a cached word to a long reply of a slow machine.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_SECONDS = "domainlift_request_seconds"
#: Every family by name: its type, and what it counts.
FAMILIES = {
    "domainlift_requests_total": ("counter", "Requests by endpoint and status."),
    _SECONDS: ("histogram", "Seconds from a request to the end of its answer."),
    "domainlift_tokens_total": ("counter", "Tokens of prompts and of replies."),
    "domainlift_routes_total": ("counter", "Questions by the domain that they were routed to."),
    "domainlift_replies_total": ("counter", "Replies by whether the documents support an answer."),
    "domainlift_refusals_total": ("counter", "Replies that only said that nothing was found."),
    "domainlift_gate_total": ("counter", "Searches by whether the gate let passages in."),
    "domainlift_feedback": ("gauge", "Marks on replies by verdict and state."),
    "domainlift_decisions": ("gauge", "Decisions of `bench watch` so far."),
    "domainlift_probe_accuracy": ("gauge", "Share of probe questions answered right."),
    "domainlift_probe_accuracy_low": ("gauge", "Lower end of its 95 % interval."),
    "domainlift_probe_accuracy_high": ("gauge", "Upper end of its 95 % interval."),
    "domainlift_version_info": ("gauge", "What is served; always 1."),
}


@dataclass(frozen=True)
class Sample:
    """One value of a family."""

    family: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Metrics:
    """Counts what many threads tell it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._sums: dict[str, float] = defaultdict(float)

    def count(self, family: str, value: int = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[family, tuple(labels.items())] += value

    def count_reply(self, prepared: PreparedReply, said: Sequence[ReplyDelta]) -> None:
        """Count a whole reply: its tokens, its route, its gate and its support."""
        treatment = prepared.treatment
        supported = {None: "not searched", True: "yes", False: "no"}[prepared.supported]
        if prepared.routed:
            self.count("domainlift_routes_total", domain=treatment.route or "none")
        self.count("domainlift_replies_total", supported=supported)
        if treatment.searched:
            passages = "let in" if treatment.passages else "kept out"
            self.count("domainlift_gate_total", domain=treatment.route, passages=passages)
        if [delta.text for delta in said] == [NOT_FOUND]:
            self.count("domainlift_refusals_total")
        for kind in ("prompt", "output"):
            tokens = max((getattr(delta, f"{kind}_tokens") for delta in said), default=0)
            self.count("domainlift_tokens_total", tokens, kind=kind)

    def observe(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request and its seconds."""
        self.count("domainlift_requests_total", endpoint=endpoint, status=str(status))
        with self._lock:
            self._buckets[endpoint][bisect_left(BUCKETS, seconds)] += 1
            self._sums[endpoint] += seconds

    def text(self, stored: Iterable[Sample] = ()) -> str:
        """All families that have a value, with those that are `stored` elsewhere."""
        with self._lock:
            counted = [Sample(name, n, labels) for (name, labels), n in self._counts.items()]
            samples = [*counted, *self._histogram(), *stored]
        lines = []
        for family, (kind, what) in FAMILIES.items():
            own = [each for each in samples if _of(each, family)]
            if own:
                lines += [f"# HELP {family} {what}", f"# TYPE {family} {kind}", *map(_line, own)]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterator[Sample]:
        for endpoint, buckets in self._buckets.items():
            own, total = ("endpoint", endpoint), 0
            for end, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                yield Sample(f"{_SECONDS}_bucket", total, (own, ("le", end)))
            yield Sample(f"{_SECONDS}_sum", self._sums[endpoint], (own,))
            yield Sample(f"{_SECONDS}_count", total, (own,))


class Measured:
    """Counts every request of an application; paths that are none of `endpoints` are one."""

    def __init__(self, app: ASGIApp, metrics: Metrics, endpoints: Collection[str]) -> None:
        self._app, self._metrics, self._endpoints = app, metrics, endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        finally:
            endpoint = scope["path"] if scope["path"] in self._endpoints else "other"
            self._metrics.observe(endpoint, status, time.perf_counter() - begun)


def _of(sample: Sample, family: str) -> bool:
    return sample.family.removeprefix(family) in ("", "_bucket", "_sum", "_count")


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
    return f"{sample.family}{f'{{{labels}}}' if labels else ''} {sample.value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
