from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rag.base import Chunk
from rag.index.bm25 import BM25Index
from rag.search.retrieval import METHODS, Retrieval, Retriever

np = pytest.importorskip("numpy")
pytest.importorskip("bm25s")

FILE = Path(__file__).parents[1] / "fixtures" / "three_scripts.jsonl"
ROWS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
NOTES = [
    "The ﬁne ﬂour of the oﬃce café is ground at night.",
    "C was written by Dennis Ritchie.",
    "C++ was written by Bjarne Stroustrup and has classes.",
    "C# and F# run on .NET, which belongs to Microsoft.",
    "R is a language of statistics; Node.js runs JavaScript.",
    "C-14 has a half-life of 5,730 years, and vitamin D none.",
    "A net of fine threads catches fish.",
    "식물은 광합성으로 양분을 만든다.",
    "ໝາກໄມ້ແມ່ນອາຫານທີ່ດີ",
    "ការសរសេរជាភាសាខ្មែរ",
    "မြန်မာဘာသာစကားကို ပြောသည်",
    "हिन्दी भारत की एक भाषा है।",
]
TEXTS = [row["text"] for row in ROWS] + NOTES
FOUND = [
    *((row["question"], row["text"]) for row in ROWS),
    ("fine flour", NOTES[0]),
    ("CAFE\u0301", NOTES[0]),
    ("ＯＦＦＩＣＥ", NOTES[0]),
    ("C", NOTES[1]),
    ("C++", NOTES[2]),
    ("c#", NOTES[3]),
    ("F#", NOTES[3]),
    (".NET", NOTES[3]),
    ("net", NOTES[6]),
    ("R", NOTES[4]),
    ("nodejs", NOTES[4]),
    ("C14", NOTES[5]),
    ("D", NOTES[5]),
    ("5730", NOTES[5]),
    ("광합성이란", NOTES[7]),
    ("ໝາກໄມ້", NOTES[8]),
    ("ភាសាខ្មែរ", NOTES[9]),
    ("မြန်မာ", NOTES[10]),
    ("भाषा", NOTES[11]),
]


class Foreign:
    """An index of texts in scripts that the embedding model does not know: vectors are noise."""

    def __init__(self) -> None:
        self.chunks = [Chunk(text, str(n)) for n, text in enumerate(TEXTS)]
        self.vectors = noise(TEXTS)
        self.manifest = SimpleNamespace(weight=None)
        index = BM25Index.of(TEXTS)
        self.bm25, self.bounds = index.query, index.bounds

    def dense(self, vectors: Any, k: int) -> list[list[tuple[int, float]]]:
        rows = [np.argsort(-line)[:k] for line in vectors @ self.vectors.T]
        return [[(int(row), 0.0) for row in near] for near in rows]

    def cosines(self, vector: Any, rows: list[int]) -> list[float]:
        found: list[float] = (self.vectors[rows] @ vector).tolist()
        return found


def noise(texts: Any) -> Any:
    made = np.random.default_rng(len(texts)).normal(size=(len(texts), 384))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def index() -> Any:
    return Foreign()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "dense"])
@pytest.mark.parametrize(("query", "text"), FOUND, ids=[query for query, _ in FOUND])
def test_a_question_in_any_script_finds_its_text(
    index: Any, method: str, query: str, text: str
) -> None:
    embed = noise if method == "hybrid" else pytest.fail
    hits = Retriever(index, embed, Retrieval(method=method)).search([query], 1)[0]
    assert [hit.chunk.text for hit in hits] == [text]


def test_where_no_term_is_found_the_vectors_decide_alone(index: Any) -> None:
    hybrid, dense = (
        Retriever(index, noise, Retrieval(method=method)).search(["zebra"], 5)[0]
        for method in ("hybrid", "dense")
    )
    assert [hit.chunk for hit in hybrid] == [hit.chunk for hit in dense]
