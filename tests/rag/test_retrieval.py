from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import Misuse
from rag.base import Chunk
from rag.search.langchain import as_langchain
from rag.search.retrieval import Retrieval, Retriever, without_duplicates
from tests.helpers import fake_shelf

np = pytest.importorskip("numpy")

TEXTS = (
    "The mitochondrion makes ATP for the cell.",
    "The ribosome makes proteins for the cell.",
    "The mitochondrion makes ATP for the cell!",
    "The Treaty of Westphalia ended a long war.",
    "Photosynthesis happens in the chloroplast of a plant.",
)


class Shelf:
    """An index that compares with everything."""

    def __init__(self, bag: Any, texts: Sequence[str] = TEXTS) -> None:
        self.chunks = [Chunk(text, f"book#{n}") for n, text in enumerate(texts)]
        self.vectors = bag.encode_queries(texts)
        self.manifest = SimpleNamespace(weight=None)

    def dense(self, vectors: Any, k: int) -> list[list[tuple[int, float]]]:
        cosines = vectors @ self.vectors.T
        return [[(int(row), float(line[row])) for row in np.argsort(-line)[:k]] for line in cosines]

    def bm25(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        return [self._words(query)[:k] for query in queries]

    def bounds(self, queries: Sequence[str]) -> list[float]:
        return [float(len(set(query.lower().split()))) for query in queries]

    def cosines(self, vector: Any, rows: Sequence[int]) -> Any:
        return (self.vectors[list(rows)] @ vector).tolist()

    def _words(self, query: str) -> list[tuple[int, float]]:
        wanted = set(query.lower().split())
        shared = [
            (row, float(len(wanted & set(chunk.text.lower().split()))))
            for row, chunk in enumerate(self.chunks)
        ]
        return sorted([pair for pair in shared if pair[1]], key=lambda pair: -pair[1])


@pytest.fixture
def retriever() -> Any:
    def make(**settings: Any) -> Retriever:
        bag = fake_shelf.WordBag()
        rerank = settings.pop("rerank", None)
        shelf: Any = Shelf(bag, settings.pop("texts", TEXTS))
        return Retriever(shelf, bag.encode_queries, Retrieval(**settings), rerank)

    return make


def test_hits_tell_rank_and_scores(retriever: Any) -> None:
    hits = retriever().search(["what makes atp in the mitochondrion"], 3)[0]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert hits[0].chunk.text == TEXTS[0]
    assert hits[0].dense == pytest.approx(max(hit.dense for hit in hits), abs=0.3)
    assert hits[0].bm25 is not None
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_near_duplicates_stand_once(retriever: Any) -> None:
    hits = retriever().search(["the mitochondrion makes atp for the cell."], 5)[0]
    assert [h.chunk.text for h in hits].count(TEXTS[0]) == 1
    assert TEXTS[2] not in [h.chunk.text for h in hits]
    every = retriever(duplicate=1.1).search(["the mitochondrion makes atp"], 5)[0]
    assert len(every) == 5


@pytest.mark.parametrize("method", ["dense", "bm25", "hybrid"])
def test_each_method_finds_the_fitting_text(retriever: Any, method: str) -> None:
    hits = retriever(method=method).search(["treaty of westphalia"], 1)[0]
    assert hits[0].chunk.text == TEXTS[3]
    assert (hits[0].bm25 is None) == (method == "dense")
    assert (hits[0].dense is None) == (method == "bm25")


def test_words_that_nobody_knows_find_nothing_lexically(retriever: Any) -> None:
    assert retriever(method="bm25").search(["zebra"], 3) == [[]]
    assert retriever().search([], 3) == []


def test_questions_do_not_depend_on_their_company(retriever: Any) -> None:
    queries = ["atp", "treaty war", "plant"]
    made = retriever()
    together = made.search(queries, 3)
    assert together == [made.search([query], 3)[0] for query in queries]


def test_a_reranker_decides(retriever: Any) -> None:
    def longest(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(len(text)) for _, text in pairs]

    hits = retriever(rerank=longest, duplicate=1.1).search(["the cell makes"], 5)[0]
    lengths = [len(hit.chunk.text) for hit in hits]
    assert lengths == sorted(lengths, reverse=True)
    assert hits[0].score == lengths[0]


@pytest.mark.parametrize("settings", [{"method": "guess"}, {"weight": 1.5}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        Retrieval(**settings)


def test_settings_have_a_digest() -> None:
    assert Retrieval().digest == Retrieval().digest != Retrieval(depth=50).digest


vectors = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(
    lambda angles: np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)
)


@given(vectors)
def test_of_like_rows_the_first_stays(rows: Any) -> None:
    kept = without_duplicates(rows, 0.999, 99)
    assert kept[0] == 0
    assert kept == sorted(kept)
    for place in range(len(rows)):
        near = [k for k in kept if k <= place and float(rows[k] @ rows[place]) >= 0.999]
        assert near


def test_langchain_gets_documents(retriever: Any) -> None:
    pytest.importorskip("langchain_core")
    wrapped = as_langchain(retriever(), k=2)
    found = wrapped.invoke("treaty of westphalia")
    assert found[0].page_content == TEXTS[3]
    assert found[0].metadata["source"] == "book#3"
    assert found[0].metadata["rank"] == 1
    assert [[d.id for d in each] for each in wrapped.batch(["treaty", "plant"])] == [
        [d.id for d in wrapped.invoke(query)] for query in ("treaty", "plant")
    ]
