"""Heartbeat: no command is silent for more than five seconds.

Where nothing was written to stderr for three seconds, a line says what is being done, and for how
long. What shows progress of its own is never interrupted: its writing is what is waited for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from domainlift.activity import activity, current_activity
from domainlift.text.display import printable

#: Seconds of silence. Five are promised; a busy machine wakes a thread late, and to end takes time.
_SILENCE = 3.0
_WIDTH = 79


@contextmanager
def heartbeat(what: str) -> Iterator[None]:
    """Tell every few seconds of silence what is going on; `what` where nothing says so."""
    stream = sys.stderr
    watched = _WatchedStream(stream)
    sys.stderr = replacement = cast(TextIO, watched)
    ended = threading.Event()
    teller = threading.Thread(target=_tell, args=(watched, ended), daemon=True)
    teller.start()
    try:
        with activity(what):
            yield
    finally:
        ended.set()
        teller.join()
        watched.clear()
        if sys.stderr is replacement:
            sys.stderr = stream


class _WatchedStream:
    """A stream that knows when it was written to; in a terminal, what is told is one line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False
        self.written = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, over the line that was told where there is one."""
        self.clear()
        self.written = time.monotonic()
        return self._stream.write(text)

    def tell(self, text: str) -> None:
        """Write a line that the next writing takes away in a terminal."""
        self.written = time.monotonic()
        self._shown = self._stream.isatty()
        self._stream.write(f"\r{text[:_WIDTH]:<{_WIDTH}}" if self._shown else f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take away what was told."""
        if self._shown:
            self._shown = False
            self._stream.write("\r" + " " * _WIDTH + "\r")


def _tell(watched: _WatchedStream, ended: threading.Event) -> None:
    while not ended.wait(max(0.1, watched.written + _SILENCE - time.monotonic())):
        doing = current_activity()
        if doing is not None and doing[0] and time.monotonic() - watched.written >= _SILENCE:
            watched.tell(printable(f"… {doing[0]}, {doing[1]:.0f} s"))
