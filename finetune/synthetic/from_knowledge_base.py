"""Rows made from a domain's knowledge base: a synthetic textbook, and questions with passages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.tasks.base import Task
from domainlift.errors import BenchError, Misuse
from domainlift.files import write_json
from domainlift.sampling import hash_order
from domainlift.text.contamination import QuestionIndex
from domainlift.workspace import Workspace
from engines.registry import EngineOptions, open_engine
from finetune.data.rows import Row
from finetune.data.sources.raft import Contexts, ContextSettings, context_rows
from finetune.synthetic.generate import Progress, SynthesisJob, SyntheticTextbook, synthesize
from finetune.synthetic.prompts import Excerpt
from knowledge_bases.domains import Domain
from rag.base import Hit
from rag.corpus.source_files import own_licence
from rag.index.index import Chunks
from rag.index.store import KnowledgeBaseStore
from rag.library import library
from rag.treatment import as_passage, query


@dataclass(frozen=True)
class SynthesisOptions:
    """The model that writes, the number of passages (None: all), and whether texts are verified."""

    model: str | None
    passages: int | None
    checked: bool
    seed: int


@dataclass(frozen=True)
class SyntheticRows:
    """The rows from a knowledge base; None for a part that was not requested."""

    book: SyntheticTextbook | None = None
    contexts: Contexts | None = None

    @property
    def rows(self) -> list[Row]:
        """All rows of both."""
        return [row for part in (self.contexts, self.book) if part is not None for row in part.rows]

    def as_json(self) -> dict[str, Any]:
        """The counts of both."""
        counts: dict[str, Any] = {}
        if self.book is not None:
            counts.update(_book_json(self.book))
        if self.contexts is not None:
            made = self.contexts
            counts["context"] = {
                "rows": len(made.rows),
                "alone": made.alone,
                "skipped": made.skipped,
            }
        return counts

    def write_provenance(self, folder: Path) -> None:
        """Write the textbook's author and yields into the folder of a data set."""
        if self.book is not None:
            write_json(folder / "textbook.json", _book_json(self.book))


def synthetic_textbook(
    domain: str,
    workspace: Path,
    options: SynthesisOptions,
    asked: QuestionIndex,
    on_progress: Progress,
) -> SyntheticTextbook:
    """Have a model write about a knowledge base; replies of an earlier call are reused.

    No row asks one of the `asked` questions.
    """
    if options.model is None:
        raise Misuse("`--from-kb` needs a model that writes", "name it: `--model org/name`")
    job = SynthesisJob(domain, _excerpts(domain, workspace, options), options.checked, asked)
    with closing(open_engine(options.model, EngineOptions(seed=options.seed))) as engine:
        return synthesize(job, engine, Workspace(workspace).synthesis_log(domain), on_progress)


def questions_with_passages(
    domain: Domain, tasks: Sequence[Task], workspace: Path, settings: ContextSettings
) -> Contexts:
    """Rows of a domain's training questions with passages of its knowledge base before them."""
    _require_knowledge_base(domain.name, workspace)
    licence = own_licence(domain)
    contexts = Contexts()
    with library(workspace) as bases:
        retriever = bases.open(domain.name)
        for task in tasks:
            questions = [each for each in task.questions if each.split == "train"]
            # More than are shown: some near ones contain the answer too.
            count = 4 * (settings.distractors + 1)
            hits = retriever.search([query(each) for each in questions], count)
            passages = [[as_passage(hit) for hit in each] for each in hits]
            licences = {hit.chunk.id: hit.chunk.licence for each in hits for hit in each}
            pairs = list(zip(questions, passages, strict=True))
            contexts += context_rows(task, pairs, settings, licence=licence, licences=licences)
    return contexts


def _excerpts(domain: str, workspace: Path, options: SynthesisOptions) -> list[Excerpt]:
    """The passages to write about, in document order; a larger number includes a smaller one's."""
    _require_knowledge_base(domain, workspace)
    with KnowledgeBaseStore(Workspace(workspace).knowledge_bases).open(domain) as generation:
        chunks = Chunks(generation.folder, domain, generation.manifest.chunks)[:]
    shuffled = sorted(
        range(len(chunks)), key=lambda place: hash_order(chunks[place].id, options.seed)
    )
    chosen = [chunks[place] for place in sorted(shuffled[: options.passages])]
    return [Excerpt(as_passage(Hit(each, 1, 0.0)), each.licence) for each in chosen]


def _require_knowledge_base(domain: str, workspace: Path) -> None:
    if domain not in KnowledgeBaseStore(Workspace(workspace).knowledge_bases).names():
        raise BenchError(f"no knowledge base for `{domain}`", f"`bench kb build {domain}`")


def _book_json(book: SyntheticTextbook) -> dict[str, Any]:
    writer = {
        "passages": book.passages,
        "checked": book.checked,
        "origin": dict(book.origin),
        "journal": book.journal.name,
        "rows": len(book.rows),
    }
    return {
        "textbook": {kind: asdict(stats) for kind, stats in book.yields.items()},
        "writer": writer,
    }
