"""Retrieval by itself, on a set that the test makes and on SciFact."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from rag.index.bm25 import BM25Index, write_bm25
from rag.quality.beir import METHODS, CorpusEntry, evaluate_retrieval, read_set
from rag.quality.metrics import retrieval_metrics
from tests.helpers import fake_shelf

CORPUS = {
    "cell": ("Cells", "A mitochondrion makes the energy of a cell."),
    "leaf": ("Leaves", "A leaf turns light into sugar, and the sugar feeds the plant."),
    "war": ("Wars", "The treaty ended a long war between two kingdoms."),
    "king": ("", "The king signed a treaty."),
    "title": ("A parliament of owls", ""),
}
QUERIES = {"1": "What makes energy in a cell?", "2": "Who signed the treaty?", "3": "parliament"}
QRELS = [("1", "cell", 1), ("2", "king", 2), ("2", "war", 1), ("2", "leaf", 0), ("3", "title", 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in BEIR's layout."""
    corpus = [{"_id": i, "title": a, "text": b, "metadata": {}} for i, (a, b) in CORPUS.items()]
    queries = [{"_id": i, "text": text} for i, text in {**QUERIES, "unjudged": "?"}.items()]
    (tmp_path / "qrels").mkdir()
    put(tmp_path, "corpus.jsonl", *map(json.dumps, corpus))
    put(tmp_path, "queries.jsonl", *map(json.dumps, queries))
    put_qrels(tmp_path, *("\t".join(map(str, row)) for row in QRELS))
    return tmp_path


def put(folder: Path, name: str, *rows: str) -> None:
    (folder / name).write_text("".join(row + "\n" for row in rows), encoding="utf-8", newline="\n")


def put_qrels(folder: Path, *rows: str) -> None:
    put(folder, "qrels/test.tsv", "query-id\tcorpus-id\tscore", *rows)


def test_a_set_is_read(folder: Path) -> None:
    found = read_set(folder)
    assert found.documents[0] == CorpusEntry("cell", *CORPUS["cell"])
    assert len(found.documents) == 5
    assert found.queries == QUERIES
    assert found.qrels["2"] == {"king": 2, "war": 1, "leaf": 0}


def test_packed_files_and_windows_lines_are_read(folder: Path) -> None:
    for name in ("corpus.jsonl", "queries.jsonl"):
        raw = (folder / name).read_bytes().replace(b"\n", b"\r\n")
        (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        plain = read_set(folder)
        (folder / name).unlink()
        packed = read_set(folder)
        assert (packed.documents, packed.queries) == (plain.documents, plain.queries)
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_bytes(qrels.read_bytes().replace(b"\n", b"\r\n"))
    assert read_set(folder).qrels == packed.qrels


def test_queries_without_a_relevant_document_are_not_asked(folder: Path) -> None:
    put_qrels(folder, "1\tcell\t1", "2\tking\t0")
    assert list(read_set(folder).queries) == ["1"]


GOOD = '{"_id": "a", "text": "b"}'


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("corpus.jsonl", [GOOD, "{"], "corpus.jsonl:2: not a JSON object"),
        ("corpus.jsonl", ["[1]"], "corpus.jsonl:1: not a JSON object"),
        ("corpus.jsonl", ['{"text": "b"}'], "corpus.jsonl:1: `_id` is missing"),
        ("corpus.jsonl", ['{"_id": 7, "text": "b"}'], "corpus.jsonl:1: `_id` is not a text"),
        ("corpus.jsonl", ['{"_id": "", "text": "b"}'], "corpus.jsonl:1: `_id` is empty"),
        ("corpus.jsonl", [GOOD, "", GOOD], "corpus.jsonl:3: `_id` is `a` for a second time"),
        ("corpus.jsonl", ['{"_id": "a"}'], "corpus.jsonl:1: `text` is missing"),
        ("corpus.jsonl", ['{"_id": "a", "text": null}'], "corpus.jsonl:1: `text` is not a text"),
        (
            "corpus.jsonl",
            ['{"_id": "a", "text": "b", "title": 3}'],
            "corpus.jsonl:1: `title` is not a text",
        ),
        ("corpus.jsonl", [], "corpus.jsonl: no documents"),
        ("queries.jsonl", [GOOD], "queries.jsonl: no query `1`, which `qrels/test.tsv` judges"),
        ("qrels/test.tsv", ["1\tcell\t1"], "test.tsv:1: header is not"),
        ("qrels/test.tsv", [], "test.tsv:1: header is not"),
    ],
)
def test_errors_name_file_line_and_key(folder: Path, name: str, rows: list[str], says: str) -> None:
    put(folder, name, *rows)
    with pytest.raises(Malformed) as caught:
        read_set(folder)
    assert says in caught.value.what
    assert caught.value.what.startswith(str(folder))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1\tcell", "test.tsv:2: 2 cells instead of 3"),
        ("1 cell 1", "test.tsv:2: 1 cells instead of 3"),
        ("1\tcell\tyes", "test.tsv:2: `score` is `yes`, not a whole number"),
        ("1\tcell\t0", "test.tsv: judges no document as relevant"),
        ("", "test.tsv: judges no document as relevant"),
    ],
)
def test_errors_in_judgements(folder: Path, row: str, says: str) -> None:
    put_qrels(folder, row)
    with pytest.raises(Malformed) as caught:
        read_set(folder)
    assert says in caught.value.what


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Misuse, match=f"no `{name}`"):
        read_set(folder)


def test_a_missing_split(folder: Path) -> None:
    with pytest.raises(NoSuch, match="no split `train`"):
        read_set(folder, "train")
    with pytest.raises(BenchError):
        read_set(folder, "../test")


# --- measured


def test_an_evaluation(folder: Path) -> None:
    found = evaluate_retrieval(folder, fake_shelf.WordBag())
    assert (found.queries, found.documents, found.chunks) == (3, 5, 5)
    assert tuple(found.methods) == METHODS
    for values in found.methods.values():
        assert tuple(values) == ("ndcg@10", "recall@10", "recall@100", "mrr@10", "hole@10")
        assert all(0 <= value <= 1 for value in values.values())
    # Each query shares its rarest word with its document alone.
    assert found.methods["bm25"]["mrr@10"] == 1.0
    assert found.methods["bm25"]["recall@10"] == 1.0
    assert found.methods["hybrid"]["recall@100"] == 1.0


def test_a_document_ranks_where_its_best_chunk_does(folder: Path) -> None:
    long = " ".join(f"Word{n} tells nothing." for n in range(90))
    text = f"{long} A zebra crosses. {long}"
    put(folder, "corpus.jsonl", json.dumps({"_id": "zoo", "text": text}), GOOD)
    put(folder, "queries.jsonl", '{"_id": "1", "text": "A zebra crosses"}')
    put_qrels(folder, "1\tzoo\t1")
    found = evaluate_retrieval(folder, fake_shelf.WordBag())
    assert found.chunks > found.documents == 2
    assert found.methods["bm25"]["ndcg@10"] == 1.0
    # Every chunk of both documents is found, and each document counts once.
    assert found.methods["dense"]["recall@10"] == 1.0


def test_the_document_from_which_a_query_was_taken_is_left_out(folder: Path) -> None:
    put(folder, "queries.jsonl", '{"_id": "king", "text": "The king signed a treaty."}')
    put_qrels(folder, "king\twar\t1")
    assert evaluate_retrieval(folder, fake_shelf.WordBag()).methods["bm25"]["mrr@10"] == 1.0


SCIFACT = Path(os.environ.get("BENCH_DATA", "")) / "scifact"


@pytest.mark.skipif(
    "BENCH_DATA" not in os.environ or not SCIFACT.is_dir(), reason="needs the mirror"
)
def test_scifact_by_words_alone_is_as_good_as_published(tmp_path: Path) -> None:
    judgements = read_set(SCIFACT)
    assert (len(judgements.documents), len(judgements.queries)) == (5183, 300)
    write_bm25(tmp_path, [f"{entry.title}\n{entry.text}" for entry in judgements.documents])
    found = BM25Index.open(tmp_path).query(list(judgements.queries.values()), 100)
    results = {
        query: [judgements.documents[row].id for row, _ in ranking]
        for query, ranking in zip(judgements.queries, found, strict=True)
    }
    values = retrieval_metrics(judgements.qrels, results)
    assert values["ndcg@10"] >= 0.665
    assert values["recall@100"] >= 0.88
