"""Registry of readers: the ending of a file's name, and the function that reads such a file.

To add a reader, write `rag/corpus/readers/NAME.py` with a function

    def read_name(file: SourceFile) -> Iterator[Section]

that yields the sections of `file.local_path` as clean text (`clean_text` and `decode` of
`rag.corpus.readers.text`; `fold` of `rag.corpus.readers.base` puts blocks under their headings)
and raises `Malformed` for a file that it cannot read; then add one line to `READERS`. A package
that only this reader needs is imported within the function. `docs/sources.md` lists the endings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from domainlift.registry import load_object
from rag.corpus.readers.base import Section, SourceFile

Reader = Callable[[SourceFile], Iterator[Section]]

#: The ending of a file, or `hf:` for data sets of the hub -> its reader, "module:function".
READERS: Mapping[str, str] = {
    ".md": "rag.corpus.readers.markdown:read_markdown",
    ".markdown": "rag.corpus.readers.markdown:read_markdown",
    ".txt": "rag.corpus.readers.text:read_text_file",
    ".text": "rag.corpus.readers.text:read_text_file",
    ".html": "rag.corpus.readers.html:read_html",
    ".htm": "rag.corpus.readers.html:read_html",
    ".pdf": "rag.corpus.readers.pdf:read_pdf",
    ".jsonl": "rag.corpus.readers.rows:read_jsonl",
    ".jsonl.gz": "rag.corpus.readers.rows:read_jsonl",
    ".csv": "rag.corpus.readers.rows:read_csv",
    ".json": "rag.corpus.readers.rows:read_json",
    "hf:": "rag.corpus.readers.rows:read_hub",
}


def file_endings() -> tuple[str, ...]:
    """The endings of files that can be read."""
    return tuple(key for key in READERS if key.startswith("."))


def reader_key(name: str) -> str | None:
    """The key in `READERS` of a file's name or of a data set; None where there is no reader."""
    if name.startswith("hf:"):
        return "hf:"
    return max((e for e in file_endings() if name.lower().endswith(e)), key=len, default=None)


def load_reader(key: str) -> Reader:
    """Import the reader of a key; ImportError where its packages are not installed."""
    reader: Reader = load_object(READERS[key])
    return reader
