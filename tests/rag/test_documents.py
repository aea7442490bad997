"""From any file to documents: one per section or record, clean, with their place."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document

from domainlift.errors import BenchError, Malformed, Misuse
from rag.corpus.documents import from_langchain, load_documents, read_documents
from rag.corpus.readers.base import SourceFile
from rag.corpus.readers.registry import READERS, reader_key
from rag.corpus.source_files import find_files


def file(path: Path, content: str | bytes, **credits: Any) -> SourceFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return SourceFile(path.name, path, "", **credits)


def read(path: Path, content: str | bytes, **credits: Any) -> list[Document]:
    return list(read_documents(file(path, content, **credits)))


def told(documents: Sequence[Document]) -> list[tuple[str, str, str]]:
    return [(d.metadata["source"], d.metadata["heading"], d.page_content) for d in documents]


def rows(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


# --- which file is read by what


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.md", ".md"),
        ("A.MD", ".md"),
        ("a.jsonl.gz", ".jsonl.gz"),
        ("a.b.jsonl", ".jsonl"),
        ("hf:org/name.md", "hf:"),
        ("a.tar.gz", None),
        ("md", None),
    ],
)
def test_a_file_is_known_by_its_ending(name: str, found: str | None) -> None:
    assert reader_key(name) == found


@pytest.mark.parametrize("entry", sorted(set(READERS.values())))
def test_every_reader_exists(entry: str) -> None:
    module, _, function = entry.partition(":")
    code = f"import {module}; {module}.{function}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_line_adds_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, ".rst", "rag.corpus.readers.text:read_text_file")
    (tmp_path / "cells.RST").write_text("Cells divide.")
    (file,) = find_files([], folder=tmp_path, data=None, given=[str(tmp_path)]).files
    assert [document.page_content for document in read_documents(file)] == ["Cells divide."]


def test_importing_the_readers_imports_nothing_heavy() -> None:
    code = (
        "import sys, rag.corpus.documents, rag.corpus.source_files, rag.corpus.chunks\n"
        "import rag.corpus.readers.rows, rag.corpus.readers.pdf\n"
        "heavy = {'bs4', 'pypdf', 'markdown_it', 'datasets', 'langchain_core', 'numpy'}\n"
        "sys.exit(bool(heavy & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_package_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bs4", None)
    page = file(tmp_path / "a.html", "<p>ATP</p>")
    with pytest.raises(BenchError, match="`bs4` is not installed") as caught:
        load_documents([page])
    assert caught.value.hint == 'pip install "domainlift[rag]"'


# --- many files


def test_a_folder_with_a_bad_file_is_read_all_the_same(tmp_path: Path) -> None:
    good, bad = file(tmp_path / "a.md", "# A\n\nATP"), file(tmp_path / "b.txt", b"\xff\x00\x01")
    last = file(tmp_path / "c.jsonl", '{"text": "x"}\n{"text": \n')
    loaded = load_documents([bad, good, last])
    assert told(loaded.documents) == [("a.md", "A", "ATP")]
    assert [label for label, _ in loaded.refused] == ["b.txt", "c.jsonl"]
    assert all(str(tmp_path) not in reason and "\n" not in reason for _, reason in loaded.refused)
    assert loaded.refused[1][1].startswith("line 2: broken JSON")


def test_a_bad_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="is no text"):
        load_documents([file(tmp_path / "b.txt", b"a\0b", named=True)])


def test_a_file_of_another_ending_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no ending that can be read"):
        read(tmp_path / "a.exe", "x")


def test_declared_credits_stand_before_the_files_own(tmp_path: Path) -> None:
    content = rows({"text": "x", "title": "Own", "license": "MIT"})
    (own,) = read(tmp_path / "a.jsonl", content)
    (declared,) = read(tmp_path / "a.jsonl", content, licence="CC0", title="Declared")
    assert (own.metadata["licence"], own.metadata["title"]) == ("MIT", "Own")
    assert (declared.metadata["licence"], declared.metadata["title"]) == ("CC0", "Declared")


def test_every_document_has_a_source_of_its_own(tmp_path: Path) -> None:
    content = "# T\n\na\n\n## S\n\nb\n\n## S\n\nc\n\n## S\n\nd\n"
    sources = [d.metadata["source"] for d in read(tmp_path / "a.md", content)]
    assert sources == ["a.md", "a.md#S", "a.md#S (2)", "a.md#S (3)"]


def test_thousands_of_documents_of_one_name_keep_apart(tmp_path: Path) -> None:
    content = rows(
        *[{"title": "Untitled", "text": "x"}] * 5000, {"title": "Untitled (7)", "text": "y"}
    )
    sources = [d.metadata["source"] for d in read(tmp_path / "a.jsonl", content)]
    assert len(set(sources)) == 5001
    assert sources[:2] == ["a.jsonl#Untitled", "a.jsonl#Untitled (2)"]


# --- documents of LangChain's own loaders and splitters


@pytest.mark.parametrize(
    ("metadata", "source", "heading"),
    [
        ({"source": "notes/a.pdf", "page": 2}, "notes/a.pdf#page 3", ""),
        ({"source": "/home/me/a.txt"}, "a.txt", ""),
        ({"source": "C:\\me\\a.txt", "row": 4}, "a.txt#4", ""),
        ({"source": "https://a.example/b"}, "https://a.example/b", ""),
        ({"Header 1": "A", "Header 2": "B", "source": "a.md"}, "a.md", "A > B"),
        ({"heading": "A > B"}, "document 1", "A > B"),
        ({}, "document 1", ""),
    ],
)
def test_foreign_documents_get_the_same_metadata(
    metadata: dict[str, object], source: str, heading: str
) -> None:
    foreign = Document("ATP\x00 is  made\r\n", metadata=metadata)
    (document,) = from_langchain([foreign], licence="CC0", title="Cells")
    assert document.page_content == "ATP is  made"
    assert document.metadata == {
        **{"source": source, "heading": heading},
        **{"licence": "CC0", "title": "Cells"},
    }


def test_foreign_documents_keep_apart_and_empty_ones_are_dropped() -> None:
    foreign = [Document(text, metadata={"source": "a.md"}) for text in ("x", " ", "y")]
    assert [d.metadata["source"] for d in from_langchain(foreign)] == ["a.md", "a.md (2)"]


def test_what_a_langchain_splitter_makes_fits() -> None:
    from langchain_text_splitters import MarkdownHeaderTextSplitter

    splitter = MarkdownHeaderTextSplitter([("#", "Header 1"), ("##", "Header 2")])
    documents = list(from_langchain(splitter.split_text("# A\n\nx\n\n## B\n\ny")))
    assert [(d.metadata["heading"], d.page_content) for d in documents] == [
        ("A", "x"),
        ("A > B", "y"),
    ]


# --- text

LONG = "A line that was broken where its page was too narrow"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("ATP\r\nis made\r\n", "ATP\nis made"),
        ("\ufeffATP", "ATP"),
        ("ATP é".encode("utf-16"), "ATP é"),
        ("a\x1b[31mb\x07c", "abc"),
        ("a\u200bb\u202ec\u2066d\U000e0041e\xadf", "abcdef"),
        ("it\x92s\xa0free", "it’s free"),
        ("one\x0ctwo", "one\ntwo"),
        ("a   \n\n\n\n\nb", "a\n\nb"),
        (
            f"{LONG}\nfor it goes on here.\nshort\nlines",
            f"{LONG} for it goes on here.\nshort\nlines",
        ),
    ],
)
def test_a_text_is_cleaned(tmp_path: Path, content: str | bytes, text: str) -> None:
    assert told(read(tmp_path / "a.txt", content)) == [("a.txt", "", text)]


@pytest.mark.parametrize("content", ["", " \n \n", "\ufeff"])
def test_an_empty_file_has_no_documents(tmp_path: Path, content: str) -> None:
    for name in ("a.txt", "a.md", "a.html", "a.jsonl", "a.csv"):
        assert read(tmp_path / name, content) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"caf\xe9 au lait", "is not UTF-8 (byte 3 is 0xe9)"),
        (b"ab\0cd", "is no text: byte 2 is NUL"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f" * 3, "bytes are control characters"),
        (b"\xff\xfea\x00\x00\xd8", "broken UTF-16"),
        ("ATP".encode("utf-16-le"), "is no text: byte 1 is NUL"),
    ],
    ids=["latin-1", "NUL", "controls", "half a pair", "UTF-16 without its mark"],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv", "a.json"])
def test_what_is_no_text_is_named_with_its_place(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(Malformed) as caught:
        read(tmp_path / name, content)
    assert said in caught.value.what
    assert name in caught.value.what


def test_fifty_megabytes_in_one_line_are_read(tmp_path: Path) -> None:
    (document,) = read(tmp_path / "a.txt", b"ATP is made here " * (50 * 2**20 // 17))
    assert len(document.page_content) > 50 * 10**6


@pytest.mark.parametrize("piece", ["[", "![a](b ", "*a_ ", "<a ", "`", "> ", "- \n  "])
def test_markup_that_never_ends_takes_no_time(tmp_path: Path, piece: str) -> None:
    for name in ("a.md", "a.html"):
        read(tmp_path / name, piece * 100_000)


# --- packed files


def test_a_packed_file_reads_as_if_unpacked(tmp_path: Path) -> None:
    content = rows({"_id": "d1", "title": "ATP", "text": "x"}, {"_id": "d2", "text": "y"})
    packed = read(tmp_path / "a.jsonl.gz", gzip.compress(content.encode()))
    assert told(packed) == [("a.jsonl.gz#d1", "ATP", "x"), ("a.jsonl.gz#d2", "", "y")]


@pytest.mark.parametrize(
    "line", [b'{"text": "' + b"a" * 9999 + b'"}\n', b"a"], ids=["lines", "one line"]
)
def test_a_zip_bomb_is_an_error(tmp_path: Path, line: bytes) -> None:
    bomb = gzip.compress(line * (40 * 2**20 // len(line)))
    assert len(bomb) < 2**18
    with pytest.raises(Malformed, match="holds more than"):
        read(tmp_path / "a.jsonl.gz", bomb)


@pytest.mark.parametrize("cut", [slice(0, -9), slice(0, 8), slice(4, None)])
def test_a_broken_packed_file_is_named(tmp_path: Path, cut: slice) -> None:
    with pytest.raises(Malformed, match=r"a\.jsonl\.gz: broken gzip file"):
        read(tmp_path / "a.jsonl.gz", gzip.compress(rows({"text": "x" * 99}).encode())[cut])
