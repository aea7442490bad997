"""Read files of many formats as sections of clean text, one module per family of formats."""

from __future__ import annotations

from collections.abc import Mapping

#: Ending of a file (`hf:` stands for data sets of the hub) -> what reads it.
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


def reader_key(name: str) -> str | None:
    """The ending by which a file is read, None where it is not a known one."""
    if name.startswith("hf:"):
        return "hf:"
    matching = [each for each in READERS if name.lower().endswith(each)]
    return max(matching, key=len, default=None)
