from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from rag.base import Chunk
from rag.corpus.collect import Counts, collect, count_changes
from rag.corpus.documents import Loaded
from rag.corpus.readers.base import SourceFile
from rag.index.index import no_progress

DOCUMENTS = st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")))


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("", "ax bx", Counts(added=2)),
        ("ax bx", "ax bx", Counts(skipped=2)),
        ("ax bx", "ay bx", Counts(updated=1, skipped=1)),
        ("ax bx", "bx", Counts(skipped=1, deleted=1)),
        ("ax bx", "cx", Counts(added=1, deleted=2)),
        # Two documents of one name: one of them changed, one is new.
        ("ax", "ay az", Counts(added=1, updated=1)),
        ("ax ay", "az", Counts(updated=1, deleted=1)),
    ],
)
def test_documents_are_counted(old: str, new: str, counts: Counts) -> None:
    assert count_changes(pairs(old), pairs(new)) == counts


def pairs(text: str) -> set[tuple[str, str]]:
    return {(pair[0], pair[1]) for pair in text.split()}


@given(DOCUMENTS, DOCUMENTS)
def test_every_document_is_counted_once(
    old: set[tuple[str, str]], new: set[tuple[str, str]]
) -> None:
    counts = count_changes(old, new)
    assert counts.added + counts.updated + counts.skipped == len(new)
    assert counts.deleted + counts.updated + counts.skipped == len(old)
    assert min(counts.added, counts.deleted) >= 0


def cut(document: Document) -> Sequence[Chunk]:
    return [Chunk(document.page_content, document.metadata["source"], document="d")]


def answer(file: SourceFile) -> Loaded:
    return Loaded((Document("text", metadata={"source": file.label}),))


def silence(file: SourceFile) -> Loaded:
    return Loaded((), ((file.label, "the hub does not answer"),))


def test_a_data_set_that_cannot_be_reached_stays_as_it_was() -> None:
    hub = SourceFile("hf:org/set", None, "")
    first = collect([hub], {}, answer, cut, no_progress)
    [source] = first.sources
    kept = {(source.label, source.sha256, source.licence, source.title): first.chunks}
    later = collect([hub], kept, silence, cut, no_progress)
    assert later.chunks == first.chunks
    assert later.sources == first.sources
    assert later.refused == ["hf:org/set: the hub does not answer; it stays as it was"]


def test_a_file_that_cannot_be_read_any_more_is_left_out() -> None:
    old = SourceFile("a.txt", Path("a.txt"), "1")
    kept = {("a.txt", "1", "", ""): [Chunk("text", "a.txt")]}
    new = SourceFile("a.txt", Path("a.txt"), "2")
    assert collect([old], kept, silence, cut, no_progress).refused == []
    later = collect([new], kept, silence, cut, no_progress)
    assert later.chunks == later.sources == []
    assert later.refused == ["a.txt: the hub does not answer"]
