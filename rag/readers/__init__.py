"""Read files of many formats as sections of clean text, one module per family of formats."""

from __future__ import annotations

from collections.abc import Mapping

#: Ending of a file (`hf:` stands for data sets of the hub) -> what reads it.
READERS: Mapping[str, str] = {
    ".md": "rag.readers.markdown:read",
    ".markdown": "rag.readers.markdown:read",
    ".txt": "rag.readers.text:read",
    ".text": "rag.readers.text:read",
    ".html": "rag.readers.html:read",
    ".htm": "rag.readers.html:read",
    ".pdf": "rag.readers.pdf:read",
    ".jsonl": "rag.readers.rows:read_jsonl",
    ".jsonl.gz": "rag.readers.rows:read_jsonl",
    ".csv": "rag.readers.rows:read_csv",
    ".json": "rag.readers.rows:read_json",
    "hf:": "rag.readers.rows:read_hub",
}


def ending(name: str) -> str | None:
    """The ending by which a file is read, None where it is not a known one."""
    if name.startswith("hf:"):
        return "hf:"
    matching = [each for each in READERS if name.lower().endswith(each)]
    return max(matching, key=len, default=None)
