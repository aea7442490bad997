"""Notes of the loop: what could not be done, printed when it happens and kept for the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from domainlift.errors import BenchError, Interrupted
from reports.terminal import print_note


@dataclass(frozen=True)
class Notes:
    """Collects notes, one line each."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Print a note and keep it."""
        self.lines.append(text)
        print_note(text)

    @contextmanager
    def instead_of(self, what: str) -> Iterator[None]:
        """Turn an error into a note that there is no `what`; Ctrl-C is raised."""
        try:
            yield
        except Interrupted:
            raise
        except BenchError as error:
            self.add(f"no {what}: {error_line(error)}")


def error_line(error: BenchError) -> str:
    """An error and its hint in one line."""
    return f"{error.what}; {error.hint}" if error.hint is not None else error.what
