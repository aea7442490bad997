"""Progress on stderr: a bar in a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from reports.terminal import printable

_EVERY = 10.0


class Progress:
    """Counts questions; the rate is that of the last minute, for questions differ in length."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._done = total, done
        self._start = self._said = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque([(self._start, done)], maxlen=600)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Show the bar."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description:<18}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                "starting", total=self._total, completed=self._done, rate=""
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, domain: str) -> None:
        """One more question of a domain is answered."""
        domain = printable(domain)
        self._done += 1
        now = time.monotonic()
        self._recent.append((now, self._done))
        while now - self._recent[0][0] > 60:
            self._recent.popleft()
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._done, description=domain, rate=self._rate(now)
            )
        elif now - self._said >= _EVERY:
            self._said = now
            print(f"{domain}  {self._done}/{self._total}  {self._rate(now)}", file=sys.stderr)

    def _rate(self, now: float) -> str:
        since, before = self._recent[0]
        rate = (self._done - before) / max(now - since, 1e-6)
        if rate <= 0 or self._done == before:
            return ""
        return f"{rate:.3g}/s  {duration((self._total - self._done) / rate)} left"


def duration(seconds: float) -> str:
    """Two units at most: 12 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
