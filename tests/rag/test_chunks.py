"""Chunks: never too long, nothing lost, each at its place, at good breaks, in linear time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from domainlift.errors import Misuse
from rag.base import Chunk
from rag.corpus.chunks import WIDEST, split_text

_PIECES = re.compile(r"\w{1,5}|[^\w\s]")


def pieces(text: str) -> int:
    """Count as a tokenizer of word pieces does, two special tokens included."""
    return 2 + len(_PIECES.findall(text))


def whole_words(text: str) -> int:
    """A word of any length is one token, as WordPiece's unknown word is."""
    return 2 + len(text.split())


def bytes_of(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def document(text: str, heading: str = "", **metadata: str) -> Document:
    return Document(text, metadata={"source": "a.md", "heading": heading, **metadata})


def check(chunks: list[Chunk], text: str, count: Callable[[str], int], size: int) -> None:
    covered = [" "] * len(text)
    for chunk in chunks:
        assert text[chunk.offset : chunk.offset + len(chunk.text)] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        assert count(chunk.indexed) <= size
        covered[chunk.offset : chunk.offset + len(chunk.text)] = chunk.text
    assert "".join("".join(covered).split()) == "".join(text.split())
    for one, two in pairwise(chunks):
        assert one.offset + len(one.text) <= two.offset


TEXTS = st.one_of(
    st.text(max_size=3000),
    st.lists(
        st.sampled_from(
            [
                "The cell. ",
                "ATP ",
                "Who? ",
                "\n\n",
                "\n",
                "  ",
                "…",
                "e.g. ",
                "光合作用。",
                "👩‍🔬",
                "x" * 90,
            ]
        ),
        max_size=400,
    ).map("".join),
)


@settings(max_examples=150)
@given(
    text=TEXTS,
    heading=st.one_of(st.just(""), st.just("A > B"), st.text(max_size=300)),
    count=st.sampled_from([pieces, whole_words, bytes_of, len]),
    size=st.integers(32, 120),
)
def test_any_text_is_cut_whole_and_within_the_size(
    text: str, heading: str, count: Callable[[str], int], size: int
) -> None:
    check(split_text(document(text, heading), count, size=size), text, count, size)


@pytest.mark.parametrize("count", [pieces, whole_words, bytes_of])
@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "x" * 100_000 + " end.",
        "Same words. " * 5000,
        "光合作用" * 5000,
        " " * 50_000 + "word" + "\n" * 50_000 + "word",
        "a " * 3000 + "y" * 3000 + " b" * 3000,
        ". " * 20_000,
    ],
    ids=["word", "word, end", "repeated", "no spaces", "blank", "uneven", "signs"],
)
def test_awkward_texts(text: str, count: Callable[[str], int]) -> None:
    check(split_text(document(text, "Title"), count), text, count, 200)


def test_a_short_document_is_one_chunk_with_its_place_and_licence() -> None:
    (chunk,) = split_text(document("ATP is made.", "Cells > ATP", licence="CC0"), pieces)
    assert (chunk.text, chunk.heading, chunk.offset) == ("ATP is made.", "Cells > ATP", 0)
    assert (chunk.source, chunk.licence, len(chunk.document)) == ("a.md", "CC0", 16)


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_empty_document_has_no_chunks(text: str) -> None:
    assert split_text(document(text, "Title"), pieces) == []


def test_the_document_is_known_by_text_and_heading() -> None:
    one, other, same, elsewhere = (
        split_text(Document(text, metadata={"heading": heading, "source": source}), pieces)[
            0
        ].document
        for text, heading, source in [
            *(("a", "b", "x"), ("a", "c", "x"), ("a", "b", "x"), ("a", "b", "y"))
        ]
    )
    assert one == same == elsewhere != other


def test_paragraphs_are_kept_whole_where_they_fit() -> None:
    paragraph = " ".join(f"Sentence number {n} stands here." for n in range(12))
    text = "\n\n".join([paragraph] * 6)
    chunks = split_text(document(text), pieces, size=150)
    assert {chunk.text for chunk in chunks} == {paragraph}


def test_sentences_are_kept_whole_where_they_fit() -> None:
    text = " ".join(f"Dr. J. Smith wrote e.g. sentence number {n} of this text." for n in range(90))
    chunks = split_text(document(text), pieces, size=100)
    assert len(chunks) > 8
    assert all(chunk.text.startswith("Dr.") and chunk.text.endswith("text.") for chunk in chunks)


def test_words_are_kept_whole_where_they_fit() -> None:
    text = " ".join(f"word{n}" for n in range(2000))
    assert all(
        (word.startswith("word") and text.find(f"{word} ") >= 0) or word == "word1999"
        for chunk in split_text(document(text), pieces)
        for word in chunk.text.split()
    )


@pytest.mark.parametrize("words", [199, 205, 240, 399])
def test_no_short_piece_is_left_at_the_end(words: int) -> None:
    text = " ".join(["cell"] * words)
    lengths = [len(chunk.text.split()) for chunk in split_text(document(text), pieces)]
    assert sum(lengths) == words
    assert len(lengths) == (1 if words < 199 else -(-words // 198)), lengths
    assert min(lengths) >= 50


def test_the_limit_of_the_model_is_below_the_wished_size() -> None:
    text = "word " * 3000
    chunks = split_text(document(text, "Title"), pieces, size=500, limit=64)
    assert max(pieces(chunk.indexed) for chunk in chunks) <= 64


def test_a_size_that_holds_no_sentence_is_refused() -> None:
    with pytest.raises(Misuse, match="chunks of 10 tokens are too small"):
        split_text(document("a"), pieces, size=10)


def test_a_long_heading_is_shortened_from_the_left() -> None:
    heading = " > ".join(f"heading number {n}" for n in range(60))
    (chunk,) = split_text(document("ATP is made.", heading), pieces)
    assert heading.endswith(chunk.heading)
    assert chunk.heading.startswith("heading number")
    assert 20 <= pieces(chunk.heading) <= 67


def test_one_long_heading_keeps_its_last_words() -> None:
    heading = " ".join(f"number{n}" for n in range(600))
    (chunk,) = split_text(document("ATP is made.", heading), pieces)
    assert chunk.heading.startswith("… ")
    assert heading.endswith(chunk.heading.removeprefix("… "))
    assert 20 <= pieces(chunk.heading) <= 67


def test_the_work_grows_with_the_text_and_not_with_its_square() -> None:
    # A count costs as much as the text that is counted is long.
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return pieces(text)

    sentence = "Mitochondria make the ATP that a cell needs, in most of its parts. "
    for times in (200, 2000, 20_000):
        counted = 0
        text = sentence * times
        split_text(document(text, "Cells"), count)
        assert counted < 2.5 * len(text)


def test_a_long_text_is_cut_in_reasonable_time() -> None:
    text = "Mitochondria make the ATP that a cell needs. " * 100_000  # 4.5 MB
    start = time.perf_counter()
    chunks = split_text(document(text), lambda piece: 2 + len(piece) // 4)
    assert len(chunks) > 4000
    assert time.perf_counter() - start < 10


def test_no_chunk_is_wider_than_its_tokens_explain() -> None:
    chunks = split_text(document("x" * 100_000), whole_words, size=100)
    assert max(len(chunk.text) for chunk in chunks) <= 100 * WIDEST
