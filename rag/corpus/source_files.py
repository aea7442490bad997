"""Source files of a knowledge base: those its domain declares, and those a user gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from domainlift.errors import BenchError, Malformed, Misuse
from domainlift.files import sha256, stays_inside
from knowledge_bases.domains import Domain
from knowledge_bases.sources import Source, parse_location
from rag.corpus.readers.base import SourceFile, distinct_blocks
from rag.corpus.readers.registry import file_endings, reader_key
from rag.corpus.readers.text import LARGEST, clean_line

OWN_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Found:
    """Files that were found; `missing` and `notes` are sentences on what was left out, and why.

    `declared` and `given` are where they were looked for, `licence` holds for what was given.
    """

    files: tuple[SourceFile, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    licence: str = ""


def domain_sources(domain: Domain) -> tuple[Source, ...]:
    """The domain's own `documents` folder, and the sources that it declares."""
    if domain.documents is None:
        return domain.sources
    return (Source("documents", own_licence(domain), domain.title), *domain.sources)


def own_licence(domain: Domain) -> str:
    """The licence of a domain's own folder, "" for a domain of the user."""
    return OWN_LICENCE if domain.is_built_in else ""


def find_files(
    sources: Sequence[Source],
    *,
    folder: Path,
    data: Path | None,
    given: Sequence[str] = (),
    licence: str = "",
) -> Found:
    """Find the files of declared sources, and of those `given` on the command line.

    `folder` is the domain's, `data` the mirror of published data; `licence` holds for what is
    given.
    """
    search = _Search()
    for source in sources:
        search.declared(source, folder, data)
    for where in given:
        search.given(where, licence, data)
    declared = tuple(source.where for source in sources)
    missing, notes = tuple(search.missing), tuple(search.notes)
    return Found(tuple(search.files), missing, notes, declared, tuple(given), licence)


@dataclass
class _Search:
    files: list[SourceFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    paths: set[Path] = field(default_factory=set)

    def declared(self, source: Source, folder: Path, data: Path | None) -> None:
        kind, rest = parse_location(source.where)
        if kind == "hf":
            self._hub(source, named=False)
        elif kind == "mirror":
            self._mirror(source, rest, data, named=False)
        else:
            path = folder / rest
            if not stays_inside(path, folder):
                raise Misuse(f"source `{rest}` leads out of `{folder}`", "copy the documents there")
            self._tree(path, Path(rest).as_posix(), source, named=False)

    def given(self, where: str, licence: str, data: Path | None) -> None:
        source = Source(where, licence)
        try:
            kind, rest = parse_location(where) if not Path(where).exists() else ("file", where)
        except ValueError as error:
            raise Misuse(str(error)) from None
        if kind == "hf":
            self._hub(source, named=True)
        elif kind == "mirror":
            self._mirror(source, rest, data, named=True)
        else:
            path = Path(rest).expanduser()
            self._tree(path, path.resolve().name, source, named=True)

    def _hub(self, source: Source, *, named: bool) -> None:
        if source.where not in self.labels:
            self.labels[source.where] = 0
            credit = (source.licence, source.title, source.url)
            self.files.append(SourceFile(source.where, None, "", *credit, named))

    def _mirror(self, source: Source, rest: str, data: Path | None, *, named: bool) -> None:
        path = None if data is None else data / rest
        if path is not None and path.exists():
            # The mirror's first folder is a kind of data, not a part of a name.
            label = "/".join(Path(rest).parts[1:]) or rest
            self._tree(path, label, source, named=named)
            return
        get = f"; it comes from {source.url}" if source.url else ""
        hint = f"set BENCH_DATA (or `--data`) to a folder that holds `{rest}`{get}"
        if named:
            raise Misuse(f"no `{source.where}`", hint)
        self.missing.append(f"`{source.where}` is left out: {hint}")

    def _tree(self, path: Path, label: str, source: Source, *, named: bool) -> None:
        if path.is_file():
            if reader_key(path.name) is None:
                raise Misuse(f"`{path}` has no ending that can be read", _endings())
            self._add(path, label, source, named=named)
        elif path.is_dir():
            self._folder(path, label, source)
        else:
            what = f"source `{label}` is no file or folder" if path.exists() else f"no `{path}`"
            raise Misuse(what, "give the path of a file or folder")

    def _folder(self, root: Path, label: str, source: Source) -> None:
        before = len(self.files)
        for path in _walk(root, root, self._note):
            relative = path.relative_to(root).as_posix()
            try:
                self._add(path, f"{label}/{relative}", source, named=False)
            except BenchError as error:
                self._note(path, error.what)
        if len(self.files) == before and not any(
            path.is_relative_to(root.resolve()) for path in self.paths
        ):
            raise Misuse(f"`{root}` holds nothing that can be read", _endings())

    def _add(self, path: Path, label: str, source: Source, *, named: bool) -> None:
        resolved = path.resolve()
        if resolved in self.paths:
            return
        digest = _digest(path)
        self.paths.add(resolved)
        credit = (source.licence, source.title, source.url)
        label = self._label(label, resolved)
        self.files.append(SourceFile(label, path, digest, *credit, named))

    def _label(self, label: str, path: Path) -> str:
        """Put folders before a label that is taken, until it is not."""
        parts = path.parts[1:]
        length = label.count("/") + 1
        while label in self.labels and length < len(parts):
            length += 1
            label = "/".join(parts[-length:])
        return distinct_blocks(clean_line(label), self.labels)

    def _note(self, path: Path, reason: str) -> None:
        self.notes.append(f"`{clean_line(str(path))}` is left out: {clean_line(reason)}")


def _walk(folder: Path, root: Path, note: Callable[[Path, str], None]) -> Iterator[Path]:
    """Yield readable files in the order of their names; links stay within the folder."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        note(folder, f"cannot be read: {error.strerror}")
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_symlink() and not stays_inside(path, root):
            note(path, "a link that leads out of the folder")
        elif path.is_dir() and not path.is_symlink():  # what a link within leads to is met itself
            yield from _walk(path, root, note)
        elif path.is_file() and reader_key(path.name) is not None:
            yield path


def _digest(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            what = f"holds more than {LARGEST // 2**20} MB"
            raise Malformed(path, what, hint="split it into smaller files")
        return sha256(path)
    except OSError as error:
        raise Malformed(path, f"cannot be read: {error.strerror}") from None


def _endings() -> str:
    return "files are read that end in " + ", ".join(f"`{ending}`" for ending in file_endings())
