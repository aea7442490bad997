"""Reader of PDF: one section per page."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed
from rag.corpus.readers.base import Section, SourceFile
from rag.corpus.readers.text import clean_line, clean_text, unwrap

_HYPHEN = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


def read_pdf(file: SourceFile) -> Iterator[Section]:
    """Read the text of each page; encrypted files and scans are errors."""
    path = file.local_path
    reader = _open(path)
    title = clean_line(_or_broken(path, lambda: str((reader.metadata or {}).get("/Title") or "")))
    count = _or_broken(path, lambda: len(reader.pages))
    empty = True
    for number in range(count):
        text = _or_broken(path, lambda page=number: reader.pages[page].extract_text())
        text = unwrap(_HYPHEN.sub("", clean_text(text)))
        if text:
            empty = False
            yield Section(text, (title,) if title else (), f"page {number + 1}", title=title)
    if empty:
        hint = "make its text readable with an OCR program first"
        raise Malformed(path, "holds no text, perhaps it is a scan", hint=hint)


def _open(path: Path) -> Any:
    from pypdf import PdfReader

    # What it repairs in passing is no news for the user.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = _or_broken(path, lambda: PdfReader(path))
    if reader.is_encrypted and not _or_broken(path, lambda: reader.decrypt("")):
        raise Malformed(path, "is encrypted", hint="save it again without a password")
    return reader


def _or_broken(path: Path, call: Any) -> Any:
    try:
        return call()
    except MemoryError:
        raise
    except Exception as error:  # what a broken file raises is anything
        if type(error).__name__ == "DependencyError":
            raise Malformed(path, "is encrypted", hint="save it again without a password") from None
        first = (str(error).splitlines() or [""])[0][:100]
        what = f"cannot be read as PDF ({type(error).__name__}: {first})"
        raise Malformed(path, what, hint="save it again with another program") from None
