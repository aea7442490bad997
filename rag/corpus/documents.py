"""Loader of files as LangChain documents: clean text with its source and licence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Misuse
from rag.corpus.readers.base import Section, SourceFile, distinct_blocks
from rag.corpus.readers.registry import READERS, load_reader, reader_key
from rag.corpus.readers.text import clean_line, clean_text

if TYPE_CHECKING:
    from langchain_core.documents import Document as Document  # others speak of it, too

BETWEEN = " > "
_LONGEST_RECORD = 120
#: What tells apart the documents that a loader makes of one file; pages count from 0.
_PARTS = ("id", "seq_num", "row", "start_index")


@dataclass(frozen=True)
class Loaded:
    """Documents, and the files that could not be read, each with the reason in one line."""

    documents: tuple[Document, ...]
    refused: tuple[tuple[str, str], ...] = ()


def load_documents(files: Sequence[SourceFile]) -> Loaded:
    """Read many files; only one that the user named himself may stop all of it."""
    documents: list[Document] = []
    refused: list[tuple[str, str]] = []
    for file in files:
        try:
            documents.extend(list(read_documents(file)))
        except BenchError as error:
            if file.named or isinstance(error, _NotInstalled):
                raise
            refused.append((file.label, _reason(file, error)))
    return Loaded(tuple(documents), tuple(refused))


def load_file(file: SourceFile) -> Loaded:
    """Read one file."""
    return load_documents([file])


def read_documents(file: SourceFile) -> Iterator[Document]:
    """Read one file; `source` is its label, or `label#record` where it holds several documents.

    One document is one section, where a file shows its sections, or one record.
    """
    key = reader_key(file.label if file.path is None else file.path.name)
    if key is None:
        known = ", ".join(f"`{each}`" for each in READERS)
        raise Misuse(f"`{file.label}` has no ending that can be read", f"known: {known}")
    taken: dict[str, int] = {}
    try:
        from langchain_core.documents import Document

        for section in load_reader(key)(file):
            if section.text.strip():
                yield Document(section.text, metadata=_metadata(file, section, taken))
    except ImportError as error:
        raise _NotInstalled(error) from error


def from_langchain(
    documents: Iterable[Document], *, licence: str = "", title: str = ""
) -> Iterator[Document]:
    """Give the documents of any LangChain loader or splitter the same metadata as our own."""
    from langchain_core.documents import Document

    taken: dict[str, int] = {}
    for number, document in enumerate(documents, 1):
        text, foreign = clean_text(document.page_content), document.metadata
        if text.strip():
            source = _foreign_source(document, number)
            metadata = {
                "source": distinct_blocks(source, taken),
                "heading": _foreign_heading(foreign),
                "licence": licence or clean_line(str(foreign.get("licence", ""))),
                "title": title or clean_line(str(foreign.get("title", ""))),
            }
            yield Document(text, metadata=metadata)


class _NotInstalled(BenchError):
    """A package is missing: the same for every file."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(f"`{error.name}` is not installed", 'pip install "domainlift[rag]"')


def _reason(file: SourceFile, error: BenchError) -> str:
    """The reason without the file's name, which is shown beside it."""
    reason = error.what.removeprefix(str(file.path)).lstrip(": ")
    line, colon, rest = reason.partition(": ")
    return clean_line(f"line {line}: {rest}" if colon and line.isdigit() else reason)


def _metadata(file: SourceFile, section: Section, taken: dict[str, int]) -> dict[str, str]:
    record = section.record[:_LONGEST_RECORD].rstrip()
    return {
        "source": distinct_blocks(f"{file.label}#{record}" if record else file.label, taken),
        "heading": BETWEEN.join(section.headings),
        "licence": file.licence or section.licence,
        "title": file.title or section.title or (section.headings[0] if section.headings else ""),
    }


def _foreign_source(document: Document, number: int) -> str:
    foreign = document.metadata
    where = clean_line(str(foreign.get("source") or foreign.get("file_path") or ""))
    if any(pure(where).is_absolute() for pure in (PurePosixPath, PureWindowsPath)):
        where = PureWindowsPath(where).name  # takes both kinds of slashes
    page = foreign.get("page")
    if isinstance(page, int):
        return f"{where}#page {page + 1}"
    parts: Mapping[str, Any] = {"id": document.id, **foreign}
    record = next((str(parts[key]) for key in _PARTS if parts.get(key) is not None), "")
    return "#".join(part for part in (where, clean_line(record)) if part) or f"document {number}"


def _foreign_heading(foreign: Mapping[str, Any]) -> str:
    levels = [str(foreign[key]) for key in sorted(foreign) if key.lower().startswith("header ")]
    return str(foreign.get("heading") or "") or BETWEEN.join(map(clean_line, levels))
