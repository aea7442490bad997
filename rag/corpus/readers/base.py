"""Input and output of readers: a source file, and its sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: The level of a heading (1 to 6) and its text, or 0 and a block of text.
Block = tuple[int, str]


@dataclass(frozen=True)
class SourceFile:
    """One file, or one data set of the hub, whose `path` is None and whose `sha256` is empty.

    `label` is its name, the same on every machine. `named` says that a user gave this very file:
    then an error in it is an error of the command.
    """

    label: str
    path: Path | None
    sha256: str
    licence: str = ""
    title: str = ""
    url: str = ""
    named: bool = False

    @property
    def local_path(self) -> Path:
        """The path; ValueError for a data set of the hub."""
        if self.path is None:
            raise ValueError(f"{self.label} is no file")
        return self.path


@dataclass(frozen=True)
class Section:
    """A part of a file with the headings above it, outermost first.

    `record` tells the sections of a file apart; empty where the section stands for the file.
    """

    text: str
    headings: tuple[str, ...] = ()
    record: str = ""
    licence: str = ""
    title: str = ""


def fold(blocks: Iterable[Block], title: str = "") -> Iterator[Section]:
    """Gather blocks under their headings; the file's title leads all of them.

    The title is its first heading of level 1, where none is given.
    """
    path: list[Block] = [(0, title)] if title else []
    texts: list[str] = []
    for level, text in blocks:
        if level == 0:
            texts.append(text)
            continue
        yield from _section(path, texts)
        texts = []
        # A level of 0 is never left: what stands under the title stays under it.
        path = [(above, heading) for above, heading in path if above < level]
        if text and not any(heading == text for _, heading in path):
            path.append((0 if level == 1 and not path else level, text))
    yield from _section(path, texts)


def distinct_blocks(name: str, taken: dict[str, int]) -> str:
    """Return `name`, with a number where it is taken already, and take it.

    `taken` knows the last number of each name, so that thousands of one name are no trouble.
    """
    result, number = name, taken.get(name, 0)
    while result in taken:
        number += 1
        result = f"{name} ({number + 1})"
    taken[name] = number
    taken.setdefault(result, 0)
    return result


def _section(path: list[Block], texts: list[str]) -> Iterator[Section]:
    text = "\n\n".join(part for part in texts if part.strip())
    if text:
        headings = tuple(heading for _, heading in path)
        inner = path and path[-1][0] > 0
        yield Section(text, headings, record=headings[-1] if inner else "")
