"""Weight of BM25 against vectors, chosen by asking a knowledge base for its own passages.

Two kinds of question are made of a chunk. *Its own words*: one of its sentences with half of the
words dropped; the chunk itself is right. *Its neighbour*: a whole sentence, as in the inverse cloze
task (Lee, Chang and Toutanova 2019, ACL); its chunk is held out, and the ones beside it in the same
document are right. People ask in both ways, and nobody knows in which. So another weight than the
default is taken only where it is better beyond luck over both kinds together, and worse in neither.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from domainlift.stats.paired import sign_test
from rag.base import Chunk, Vectors
from rag.index.bm25 import BM25Index, Ranked
from rag.search.fusion import WEIGHT, fuse
from rag.search.retrieval import Encode, Retrieval

WEIGHTS = (0.0, 0.25, 0.5, 0.65, WEIGHT, 0.9, 1.0)
#: How unlikely the gain of one of six weights must be as luck.
LEVEL = 0.05 / (len(WEIGHTS) - 1)
_CHUNKS = 100
_FEWEST = 20
_DEPTH = Retrieval.depth
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*|\n+")
_PIECE = re.compile(r"\s*(?:[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff]{1,3}|\S+)")
_LENGTHS = range(6, 60)  # pieces of a sentence that asks for something


@dataclass(frozen=True)
class Probe:
    """A question made of the chunk in row `own`; `right` are the rows that it should find."""

    kind: str
    text: str
    own: int
    right: frozenset[int]


def choose_weight(
    chunks: Sequence[Chunk], vectors: Vectors, lexical: BM25Index, encode: Encode
) -> float | None:
    """The weight that serves these chunks better than the default, None where none is shown to."""
    probes = list(make_probes(chunks))
    if len(probes) < _FEWEST:
        return None
    texts = [probe.text for probe in probes]
    parts = zip(
        probes, encode(texts), lexical.query(texts, _DEPTH), lexical.bounds(texts), strict=True
    )
    found = [_reciprocal_ranks(vectors, *part) for part in parts]
    return _best(probes, found)


def make_probes(chunks: Sequence[Chunk]) -> Iterator[Probe]:
    """Yield the questions of a hundred chunks, the same ones as long as their chunks are there."""
    for row in sorted(range(len(chunks)), key=lambda row: chunks[row].id)[:_CHUNKS]:
        draw = random.Random(chunks[row].id)
        sentences = [_PIECE.findall(part) for part in _SENTENCE.split(chunks[row].text) if part]
        usable = [pieces for pieces in sentences if len(pieces) in _LENGTHS]
        if not usable:
            continue
        pieces = draw.choice(usable)
        kept = sorted(draw.sample(range(len(pieces)), len(pieces) // 2))
        yield Probe("own words", "".join(pieces[n] for n in kept), row, frozenset([row]))
        beside = [n for n in (row - 1, row + 1) if 0 <= n < len(chunks)]
        right = frozenset(n for n in beside if chunks[n].source == chunks[row].source)
        if right:
            yield Probe("neighbour", "".join(pieces), row, right)


def _reciprocal_ranks(
    vectors: Vectors, probe: Probe, query: Vectors, words: Ranked, bound: float
) -> list[float]:
    """For each of `WEIGHTS`, 1 / the rank of the first right row."""
    cosines = vectors @ query
    near = [(int(row), float(cosines[row])) for row in np.argsort(-cosines)[:_DEPTH]]
    ranks = []
    for weight in WEIGHTS:
        ranking = fuse(near, words, bound, weight, lambda rows: cosines[list(rows)].tolist())
        rows = [row for row, _ in ranking if row != probe.own or row in probe.right]
        ranks.append(next((1 / n for n, row in enumerate(rows, 1) if row in probe.right), 0.0))
    return ranks


def _best(probes: Sequence[Probe], found: Sequence[Sequence[float]]) -> float | None:
    default = WEIGHTS.index(WEIGHT)
    kinds = {probe.kind for probe in probes}

    def gain(place: int, kind: str | None = None) -> float:
        pairs = zip(probes, found, strict=True)
        return sum(ranks[place] - ranks[default] for p, ranks in pairs if kind in (None, p.kind))

    def is_better(place: int) -> bool:
        gains = sum(ranks[place] > ranks[default] for ranks in found)
        losses = sum(ranks[place] < ranks[default] for ranks in found)
        harmless = all(gain(place, kind) >= 0 for kind in kinds)
        return harmless and sign_test(gains, losses) < LEVEL

    best = max(filter(is_better, range(len(WEIGHTS))), key=gain, default=None)
    return None if best is None else WEIGHTS[best]
