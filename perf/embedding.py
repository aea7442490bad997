"""Embedding throughput: `SentenceTransformer.encode` with its defaults against ours, in one run.

BENCH_DATA=FOLDER python -m perf.embedding --texts 10000

The texts are pieces of real textbooks, of mixed length. Both sides embed the same blocks in turn,
so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from typing import Any

from perf.shapes import mirror

_BLOCK = 1000
_SEED = 7
# Tokens of a piece: as short as a definition, as long as a chunk may be.
_SIZES = (32, 64, 96, 150, 200)


def main() -> None:
    """Embed block by block on both sides, and print the table."""
    parser = argparse.ArgumentParser(description="sentence-transformers against ours")
    parser.add_argument("--texts", type=int, default=10_000)
    settings = parser.parse_args()
    import numpy as np

    from rag.embedding.sentence import SentenceEmbedder

    ours = SentenceEmbedder.find("all-MiniLM-L6-v2")
    theirs = _theirs(ours)
    texts = pieces(ours, settings.texts)
    spent = {"theirs": 0.0, "ours": 0.0}
    largest = 0.0
    warm = texts[:64]
    theirs.encode(warm), ours.encode(warm)
    for number, block in enumerate(_blocks(texts)):
        # Who goes first changes from block to block.
        order = ("theirs", "ours") if number % 2 else ("ours", "theirs")
        made: dict[str, Any] = {}
        for side in order:
            start = time.perf_counter()
            made[side] = theirs.encode(block) if side == "theirs" else ours.encode(block)
            spent[side] += time.perf_counter() - start
        largest = max(largest, float(np.abs(made["ours"] - made["theirs"]).max()))
    tokens = [ours.count(text) for text in texts]
    a, b = (len(texts) / spent[side] for side in ("theirs", "ours"))
    print("|  | SentenceTransformer.encode | ours | ratio |\n|---|---|---|---|")
    print(f"| texts per second | {a:.1f} | {b:.1f} | {b / a:.2f} |\n")
    print(
        f"{len(texts):,} texts of {min(tokens)} to {max(tokens)} tokens, mean "
        f"{sum(tokens) / len(tokens):.0f}; none cut off; largest difference {largest:.1e}"
    )


def pieces(embedder: Any, count: int) -> list[str]:
    """So many pieces of real text, of mixed length, none beyond the model's limit."""
    from knowledge_bases.sources import Source
    from rag.corpus.chunks import split_text
    from rag.corpus.documents import read_documents
    from rag.corpus.source_files import find_files

    rng = random.Random(_SEED)
    sources = [Source("mirror:textbooks", "", "")]
    found = find_files(sources, folder=mirror(), data=mirror())
    texts: list[str] = []
    for file in found.files:
        for document in read_documents(file):
            size = rng.choice(_SIZES)
            texts += [
                c.indexed for c in split_text(document, embedder.count, size, embedder.max_tokens)
            ]
        if len(texts) > 4 * count:
            break
    rng.shuffle(texts)
    return texts[:count]


def _blocks(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _BLOCK):
        yield texts[start : start + _BLOCK]


def _theirs(ours: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(ours.folder))


if __name__ == "__main__":
    main()
