"""Reading: an answer that was found in a reply, and the form in which it stood there."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """An option's index or the text of an answer; `by` names the form, for the record.

    `raw` is what a scorer of its own compares.
    """

    answer: int | str
    by: str
    raw: object = field(default=None, compare=False)
