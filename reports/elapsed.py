"""Sign of life on stderr from work that cannot tell how far it is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from domainlift.text.display import printable
from reports.terminal import duration

_EVERY = 4.0


@contextmanager
def elapsed(what: str) -> Iterator[None]:
    """Tell every four seconds how long the block has taken; nothing where it is faster."""
    done = threading.Event()
    start = time.monotonic()
    stream = sys.stderr  # the block may send its own elsewhere

    def tell() -> None:
        while not done.wait(_EVERY):
            spent = duration(time.monotonic() - start)
            print(f"note: {printable(what)}: {spent}", file=stream, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
