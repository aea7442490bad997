from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.base import Chunk
from rag.index.bm25 import BM25Index
from rag.index.weight import choose_weight, make_probes
from rag.search.fusion import WEIGHT, fuse
from tests.helpers.fake_shelf import Shelf, WordBag

np = pytest.importorskip("numpy")
pytest.importorskip("bm25s")


def by_row(cosines: dict[int, float]) -> Any:
    return lambda rows: [cosines[row] for row in rows]


CASES: list[tuple[str, dict[int, float], dict[int, float], list[int]]] = [
    ("no term was found", {1: 0.6, 2: 0.5, 3: 0.1}, {}, [1, 2, 3]),
    ("vectors see noise only", {1: 0.11, 2: 0.10, 3: 0.02, 9: 0.01}, {9: 3.0}, [9, 1, 2, 3]),
    ("one common term was found", {1: 0.7, 2: 0.1}, {2: 0.2}, [1, 2]),
    ("both agree", {1: 0.7, 2: 0.3}, {1: 4.0, 2: 1.0}, [1, 2]),
    ("words repeat the text", {1: 0.7, 2: 0.5}, {2: 4.5, 1: 1.0}, [2, 1]),
    ("nothing was found", {}, {}, []),
]


@pytest.mark.parametrize(("what", "cosines", "words", "order"), CASES, ids=[c[0] for c in CASES])
def test_a_half_that_found_nothing_decides_nothing(
    what: str, cosines: dict[int, float], words: dict[int, float], order: list[int]
) -> None:
    near = [(row, cosine) for row, cosine in cosines.items() if row != 9]
    fused = fuse(near, list(words.items()), 5.0, WEIGHT, by_row(cosines))
    assert [row for row, _ in fused] == order


@given(
    st.dictionaries(st.integers(0, 20), st.floats(-1, 1), max_size=8),
    st.dictionaries(st.integers(0, 20), st.floats(0.01, 5), max_size=8),
)
def test_at_its_ends_the_weight_gives_either_half(
    cosines: dict[int, float], words: dict[int, float]
) -> None:
    near = sorted(cosines.items(), key=lambda pair: -pair[1])
    lexical = sorted(words.items(), key=lambda pair: -pair[1])
    every = by_row({**dict.fromkeys(words, -1.0), **cosines})
    vectors = fuse(near, lexical, 5.0, 0.0, every)
    assert [row for row, _ in vectors][: len(near)] == [row for row, _ in near]
    alone = fuse(near, lexical, 5.0, 1.0, every)
    if lexical:
        found = {row: score * 5.0 for row, score in alone if score}
        assert found == pytest.approx(dict(lexical))
        assert [score for _, score in alone] == sorted((s for _, s in alone), reverse=True)


TEXTS = ["C++ is a language", "C is another language", "a fine day", "饮用水的标准"]


def test_no_score_exceeds_its_bound_and_unknown_words_raise_it() -> None:
    index = BM25Index.of(TEXTS)
    queries = ["C++ language", "fine day", "水", "language zebra", "标准电"]
    for found, bound in zip(index.query(queries, 9), index.bounds(queries), strict=True):
        assert found
        assert all(0 < score <= bound for _, score in found)
    known, zebra = index.bounds(["language", "language zebra"])
    assert zebra == pytest.approx(known + math.log(1 + (4 + 0.5) / 0.5))
    # A pair of characters that nobody has is mostly none of the question's words.
    assert index.bounds(["标准", "标准电"])[0] == index.bounds(["标准电"])[0]
    assert BM25Index(None).bounds(["x"]) == [0.0]


def test_a_word_is_found_with_and_without_its_accents_and_its_own_form_first() -> None:
    texts = ["the café in Zürich", "a cafe in Zurich", "a naïve Đông", "йод", "иод", "が", "か"]
    index = BM25Index.of(texts)
    found = [[row for row, _ in each] for each in index.query(["cafe zurich", "café Zürich"], 9)]
    assert [sorted(each) for each in found] == [[0, 1], [0, 1]]
    assert found[1][0] == 0
    for query, row in (("naive", 2), ("dong", 2), ("йод", 3), ("иод", 4), ("が", 5), ("か", 6)):
        assert [place for place, _ in index.query([query], 9)[0]] == [row]
    # An accent that no text has makes a text without it no worse.
    assert index.bounds(["naîve"]) == index.bounds(["naive"])


def book(documents: int) -> list[Chunk]:
    """Two chunks for each document, of five words that are theirs alone and five of both."""
    return [
        Chunk(" ".join(f"{n}{letter}" for n in (row, f"of{row // 2}") for letter in "abcde"), name)
        for row in range(2 * documents)
        for name in [f"doc{row // 2}"]
    ]


class Blind(WordBag):
    """A model that sees nothing of a text: its vectors are noise."""

    def encode_queries(self, texts: Sequence[str]) -> Any:
        made = np.random.default_rng(5).normal(size=(len(texts), 32)).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_probes_are_held_out_repeat_themselves_and_need_neighbours() -> None:
    chunks = book(12)
    probes = list(make_probes(chunks))
    assert probes == list(make_probes(chunks))
    assert {probe.kind for probe in probes} == {"own words", "neighbour"}
    for probe in probes:
        assert (probe.own in probe.right) == (probe.kind == "own words")
        assert {chunks[row].source for row in probe.right} == {chunks[probe.own].source}
        dropped = len(chunks[probe.own].text.split()) - len(probe.text.split())
        assert dropped == (5 if probe.kind == "own words" else 0)
    thai = [Chunk("การสังเคราะห์ด้วยแสงเป็นกระบวนการที่พืชใช้แสงอาทิตย์", "a"), chunks[0]]
    assert len([p for p in make_probes(thai) if p.own == 0]) == 1


def test_the_half_that_sees_nothing_loses_its_weight() -> None:
    chunks = book(60)
    texts = [chunk.indexed for chunk in chunks]
    index, bag, blind = BM25Index.of(texts), WordBag(dimensions=256), Blind()
    turned = BM25Index.of(texts[::-1])
    seeing, noise = bag.encode_queries(texts), blind.encode_queries(texts)
    assert choose_weight(chunks, seeing, index, bag.encode_queries) is None
    assert choose_weight(chunks, noise, index, blind.encode_queries) in (0.9, 1.0)
    assert choose_weight(chunks, seeing, turned, bag.encode_queries) == 0.0
    assert choose_weight(chunks[:9], noise[:9], index, blind.encode_queries) is None


def test_the_weight_of_a_knowledge_base_is_stored_and_used(shelf: Shelf) -> None:
    from dataclasses import replace

    from rag.index.index import open_index
    from rag.search.retrieval import Retrieval, Retriever

    shelf.put("a.txt", "one: stone river", "two: cloud stone river cloud", "three: moon")
    shelf.build()
    with open_index(shelf.root, "biology") as index:
        assert index.manifest.weight is None
        query = "stone river"
        orders = {}
        for weight in (None, 0.0, 1.0):
            index.manifest = replace(index.manifest, weight=weight)
            hits = Retriever(index, shelf.bag.encode_queries).search([query], 3)[0]
            orders[weight] = [hit.score for hit in hits]
            own = Retriever(index, shelf.bag.encode_queries, Retrieval(weight=0.5))
            assert own.search([query], 3)[0][0].score == pytest.approx(
                0.5 * hits[0].bm25 / index.bounds([query])[0] + 0.5 * hits[0].dense
            )
        assert len({tuple(order) for order in orders.values()}) == 3
