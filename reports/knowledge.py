"""Terminal views of knowledge bases: hits, manifests, contaminated questions, quality."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from domainlift.text.display import printable
from domainlift.types import Question
from rag.base import Hit
from rag.contamination import Leak
from rag.index.manifest import IndexManifest
from rag.quality.beir import Evaluation
from reports.terminal import console, print_line, print_table

_WORD = re.compile(r"\w+")
# Words that are in every text say nothing about why one was found.
_SHORTEST = 3


def show_hits(query: str, hits: Sequence[Hit]) -> None:
    """Print passages, best first, the words of the query set off."""
    out = console()
    if not hits:
        out.print("nothing found")
    for hit in hits:
        heading = f"{hit.chunk.heading}  " if hit.chunk.heading else ""
        head = Text(f"{hit.rank}. {printable(heading)}", style="bold")
        out.print(head.append(Text(printable(_scores(hit)), style="dim")))
        out.print(highlighted(" ".join(hit.chunk.text.split()), query))
        licence = f" · {hit.chunk.licence}" if hit.chunk.licence else ""
        place = f"{hit.chunk.source} at {hit.chunk.offset}{licence}"
        print_line(place, "dim")
        print()


def highlighted(text: str, query: str) -> Text:
    """A text with the words of the query in bold; endings may differ by a few letters."""
    marked = Text(printable(text))
    stems = {_stem(word) for word in _WORD.findall(query) if len(word) >= _SHORTEST}
    for match in _WORD.finditer(marked.plain):
        if _stem(match.group()) in stems:
            marked.stylize("bold yellow", *match.span())
    return marked


def show_base(manifest: IndexManifest, gates: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what a knowledge base is made of."""
    rows = {
        "domain": f"{manifest.domain} ({manifest.generation}, {manifest.created})",
        "content": f"{manifest.documents:,} documents, {manifest.chunks:,} chunks of about "
        f"{manifest.size} tokens, at most {manifest.limit}",
        "embedder": f"{manifest.embedder} ({manifest.digest}), {manifest.dimensions} dimensions",
        "chroma": manifest.chroma if manifest.chroma is not None else "embedded",
        "versions": ", ".join(f"{k} {v}" for k, v in manifest.versions.items()),
    }
    for key, value in rows.items():
        print_line(f"{key:<10} {value}", soft_wrap=True)
    cells = (
        (each.label, f"{each.documents:,}", f"{each.chunks:,}", each.licence, each.title)
        for each in manifest.sources
    )
    columns = ("source", "documents", "chunks", "licence", "title")
    print_table(columns, cells, right=("documents", "chunks"))
    for model, gate in gates.items():
        print_line(f"gate for {model}: {dict(gate)}", soft_wrap=True)


def show_leaks(domain: str, questions: Mapping[str, Question], leaks: Sequence[Leak]) -> None:
    """Print the questions that stand in a knowledge base, with their places."""
    print_line(f"{len(leaks)} of {len(questions)} questions stand in the knowledge base `{domain}`")
    for leak in leaks:
        asked = " ".join(questions[leak.question].text.split())
        print_line(f"{leak.kind:<7} {leak.overlap:.2f}  {asked[:100]}")
        print_line(f"        {leak.source}  {leak.heading}", "dim")


def show_retrieval_quality(name: str, split: str, found: Evaluation) -> None:
    """Print how well each way of searching does."""
    print_line(f"{name}, {split}: {found.queries} queries")
    columns = list(next(iter(found.methods.values())))
    rows = [
        (method, *(f"{value:.4f}" for value in values.values()))
        for method, values in found.methods.items()
    ]
    print_table(("method", *columns), rows, right=columns)


def _scores(hit: Hit) -> str:
    parts = [("score", hit.score, 4), ("cosine", hit.dense, 3), ("bm25", hit.bm25, 2)]
    return ", ".join(f"{name} {value:.{n}f}" for name, value, n in parts if value is not None)


def _stem(word: str) -> str:
    """The start of a word, enough to find `mitochondria` for `mitochondrion`."""
    word = word.casefold()
    return word[: max(_SHORTEST, len(word) - 3)] if len(word) > 5 else word.rstrip("s")
