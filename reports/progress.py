"""Progress on stderr: a bar in a terminal, else a line every four seconds."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from domainlift.text.display import printable
from reports.terminal import duration

_EVERY = 4.0


class ProgressBar:
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
        self.reach(self._done + 1, self._total, domain)

    def reach(self, done: int, total: int, text: str) -> None:
        """So many of so many are done; `text` says what is going on."""
        domain = printable(text)
        if total != self._total:
            self._start_at(done - 1, total)
        self._done = done
        now = time.monotonic()
        self._recent.append((now, self._done))
        while now - self._recent[0][0] > 60:
            self._recent.popleft()
        if self._bar is not None:
            self._bar.update(
                self._task, total=total, completed=done, description=domain, rate=self._rate(now)
            )
        elif now - self._said >= _EVERY:
            self._said = now
            told = f"{domain}  {self._done}/{self._total}  {self._rate(now)}"
            print(told.rstrip(), file=sys.stderr)

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(printable(text), markup=False, highlight=False)
        else:
            print(printable(text), file=sys.stderr)

    def _start_at(self, done: int, total: int) -> None:
        self._total = total
        self._recent.clear()
        self._recent.append((self._start, done))

    def _rate(self, now: float) -> str:
        since, before = self._recent[0]
        rate = (self._done - before) / max(now - since, 1e-6)
        if rate <= 0 or self._done == before:
            return ""
        return f"{rate:.3g}/s  {duration((self._total - self._done) / rate)} left"


class Stages(ProgressBar):
    """Progress of work in named stages, each with its own count."""

    def __init__(self, name: str) -> None:
        super().__init__(0)
        self._name, self._stage = name, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is."""
        if stage != self._stage:
            self._stage, self._start = stage, time.monotonic()
            self._start_at(done, total)
        self.reach(done, total, f"{self._name}  {stage}")
