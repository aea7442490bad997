"""Evaluation of retrieval on judged sets in the layout of BEIR.

corpus.jsonl      {"_id": …, "title": …, "text": …} per line; or corpus.jsonl.gz
queries.jsonl     {"_id": …, "text": …} per line; or queries.jsonl.gz
qrels/test.tsv    query-id, corpus-id and score in columns, under a header; one file per split

The corpus becomes a knowledge base as any other does: cut by the same splitter, embedded, indexed
and searched by the same code. So the figures are those of the product, not of a laboratory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from domainlift.errors import Malformed, Misuse, NoSuch
from domainlift.files import sha256
from rag.base import Embedder
from rag.corpus.documents import Loaded
from rag.corpus.readers.base import SourceFile
from rag.corpus.readers.text import lines
from rag.index.build import BuildOptions, build_index
from rag.index.index import Index, Progress, no_progress, open_index
from rag.quality.metrics import Qrels, judged, retrieval_metrics
from rag.search.fusion import WEIGHT, fuse
from rag.search.retrieval import Retrieval

METHODS = ("dense", "bm25", "hybrid")
#: How many chunks of each method are fused; that of the product's retrieval.
DEPTH = Retrieval.depth
# Several chunks of one document may come first: for 100 documents, more chunks are asked for.
_WIDER = 3
_DOMAIN = "beir"
_COLUMNS = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True)
class CorpusEntry:
    """A document of the corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class JudgedSet:
    """A corpus, queries, and how well documents answer them.

    `queries` are those of the split; a judged document may be missing from the corpus.
    """

    corpus: Path
    documents: Sequence[CorpusEntry]
    queries: Mapping[str, str]
    qrels: Qrels


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation: for each method, each metric's mean over the queries."""

    queries: int
    documents: int
    chunks: int
    methods: Mapping[str, Mapping[str, float]]


def evaluate_retrieval(
    folder: Path,
    embedder: Embedder,
    *,
    split: str = "test",
    progress: Progress = no_progress,
) -> Evaluation:
    """Build a knowledge base of the corpus and measure how well it is searched.

    A document ranks where its best chunk does.
    """
    judgements = read_set(folder, split)
    # On Windows a file that is still mapped cannot be deleted.
    with TemporaryDirectory(prefix="bench-beir-", ignore_cleanup_errors=True) as place:
        root, corpus = Path(place), judgements.corpus
        files = [SourceFile(corpus.name, corpus, sha256(corpus))]
        options = BuildOptions(embedder, load=lambda _: _documents(judgements))
        build_index(root, _DOMAIN, files, options, progress=progress)
        with open_index(root, _DOMAIN) as index:
            found = search_set(index, embedder, judgements.queries)
            chunks = len(index.chunks)
    methods = {method: retrieval_metrics(judgements.qrels, found[method]) for method in METHODS}
    return Evaluation(len(judgements.queries), len(judgements.documents), chunks, methods)


def search_set(
    index: Index, embedder: Embedder, queries: Mapping[str, str]
) -> dict[str, dict[str, list[str]]]:
    """For each method and query the documents that are found, best first.

    A document that bears the query's own id is left out, as BEIR does: there, the query was
    taken from it.
    """
    texts, sources = list(queries.values()), [chunk.source for chunk in index.chunks]
    vectors = embedder.encode_queries(texts)
    dense = index.dense(vectors, _WIDER * DEPTH)
    lexical, bounds = index.bm25(texts, _WIDER * DEPTH), index.bounds(texts)
    weight = WEIGHT if index.manifest.weight is None else index.manifest.weight
    found: dict[str, dict[str, list[str]]] = {method: {} for method in METHODS}
    for query, vector, near, words, bound in zip(
        queries, vectors, dense, lexical, bounds, strict=True
    ):
        cosines = partial(index.cosines, vector)
        fused = fuse(near[:DEPTH], words[:DEPTH], bound, weight, cosines)
        for method, ranking in zip(METHODS, (near, words, fused), strict=True):
            documents = dict.fromkeys(sources[row] for row, _ in ranking)
            found[method][query] = [document for document in documents if document != query]
    return found


def read_set(folder: Path, split: str = "test") -> JudgedSet:
    """Read a folder; what is wrong in it is an error with file and line."""
    corpus, queries = _file(folder, "corpus"), _file(folder, "queries")
    qrels = _read_qrels(folder, split)
    documents = [CorpusEntry(id_, *texts) for id_, *texts in _rows(corpus, "title", "text")]
    texts = {id_: text for id_, text in _rows(queries, "text")}  # noqa: C416 - two of several
    asked = {}
    for query in judged(qrels):
        if query not in texts:
            raise Malformed(queries, f"no query `{query}`, which `qrels/{split}.tsv` judges")
        asked[query] = texts[query]
    if not documents:
        raise Malformed(corpus, "no documents")
    return JudgedSet(corpus, documents, asked, qrels)


# --- as a knowledge base


def _documents(judgements: JudgedSet) -> Loaded:
    """The corpus, whose file has been read and checked already."""
    from langchain_core.documents import Document

    documents = []
    for entry in judgements.documents:
        # A document that is nothing but its title is searched for by that.
        text, heading = (entry.text, entry.title) if entry.text.strip() else (entry.title, "")
        documents.append(Document(text, metadata={"source": entry.id, "heading": heading}))
    return Loaded(tuple(documents))


# --- files


def _file(folder: Path, name: str) -> Path:
    for ending in (".jsonl", ".jsonl.gz"):
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    raise Misuse(
        f"no `{name}.jsonl` or `{name}.jsonl.gz` in `{folder}`",
        "give a folder in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels/test.tsv",
    )


def _rows(path: Path, *keys: str) -> Iterator[tuple[str, ...]]:
    """Yield the id and the texts under `keys` of each line; a title may be missing."""
    seen: set[str] = set()
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise Malformed(path, "not a JSON object", line=number)
        id_ = _text(path, number, row, "_id")
        if not id_ or id_ in seen:
            what = f"`_id` is `{id_}` for a second time" if id_ else "`_id` is empty"
            raise Malformed(path, what, line=number)
        seen.add(id_)
        yield id_, *(_text(path, number, row, key) for key in keys)


def _text(path: Path, number: int, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key, "" if key == "title" else None)
    if not isinstance(value, str):
        what = f"`{key}` is missing" if key not in row else f"`{key}` is not a text"
        raise Malformed(path, what, line=number)
    return value


def _read_qrels(folder: Path, split: str) -> dict[str, dict[str, int]]:
    path = folder / "qrels" / f"{split}.tsv"
    splits = [found.stem for found in (folder / "qrels").glob("*.tsv")]
    if split not in splits:
        raise NoSuch("split", split, splits)
    qrels: dict[str, dict[str, int]] = {}
    for number, line in lines(path):
        cells = line.rstrip("\r").split("\t")
        if number == 1:
            if cells != _COLUMNS:
                what = f"header is not `{' '.join(_COLUMNS)}`, separated by tabs"
                raise Malformed(path, what, line=number)
        elif line.strip():
            query, document, grade = _judgement(path, number, cells)
            qrels.setdefault(query, {})[document] = grade
    if not judged(qrels):
        raise Malformed(path, "judges no document as relevant")
    return qrels


def _judgement(path: Path, number: int, cells: Sequence[str]) -> tuple[str, str, int]:
    if len(cells) != len(_COLUMNS):
        raise Malformed(path, f"{len(cells)} cells instead of {len(_COLUMNS)}", line=number)
    try:
        return cells[0], cells[1], int(cells[2])
    except ValueError:
        what = f"`score` is `{cells[2]}`, not a whole number"
        raise Malformed(path, what, line=number) from None
