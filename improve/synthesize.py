"""What a knowledge base gives to training: a textbook by the model itself, and passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Interrupted, Misuse
from domainlift.workspace import Workspace
from rag.library import library

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task
    from domainlift.types import Passage, Question
    from engines.base import Engine
    from finetune.data.rows import Row
    from finetune.data.sources.raft import Contexts, RenderWith
    from finetune.synthetic.generate import SynthesisJob, SyntheticTextbook
    from finetune.synthetic.prompts import Excerpt
    from knowledge_bases.domains import Domain


@dataclass(frozen=True)
class SynthesisOptions:
    """The model that writes, about how many passages (None: all), and whether it is checked."""

    model: str | None
    passages: int | None
    checked: bool
    seed: int


@dataclass(frozen=True)
class ContextOptions:
    """How many passages without the answer stand before a question, and the seed of their order."""

    distractors: int
    seed: int


@dataclass(frozen=True)
class SyntheticRows:
    """What came of the knowledge base, where that was asked for."""

    book: SyntheticTextbook | None = None
    contexts: Contexts | None = None

    @property
    def rows(self) -> list[Row]:
        """All rows of both."""
        return [row for part in (self.contexts, self.book) if part is not None for row in part.rows]

    def as_json(self) -> dict[str, Any]:
        """The counts of both."""
        parts = {
            "textbook": None if self.book is None else _book_json(self.book),
            "context": None if self.contexts is None else _contexts_json(self.contexts),
        }
        return {name: part for name, part in parts.items() if part is not None}

    def show(self) -> None:
        """Print the yield of each kind, and the counts of rows with passages."""
        if self.book is not None:
            _show_book(self.book)
        if self.contexts is not None:
            _show_contexts(self.contexts)

    def keep(self, folder: Path) -> None:
        """Put beside a data set who wrote its textbook, and what was not taken."""
        from domainlift.files import write_json

        if self.book is not None:
            write_json(folder / "textbook.json", _book_json(self.book))


def extras(
    domain: Domain,
    tasks: Sequence[Task],
    workspace: Path,
    author: SynthesisOptions | None,
    layout: ContextOptions | None,
) -> SyntheticRows:
    """Make what is asked for of a domain's knowledge base; None asks for nothing."""
    contexts = None if layout is None else _find_contexts(domain, tasks, workspace, layout)
    book = None if author is None else _write_textbook(domain.name, workspace, author)
    return SyntheticRows(book, contexts)


def _write_textbook(domain: str, workspace: Path, author: SynthesisOptions) -> SyntheticTextbook:
    """Have a model write about the knowledge base of a domain, or go on with that."""
    from benchmarks.prompts import passage_block
    from engines.registry import EngineOptions, open_engine
    from finetune.synthetic.generate import SynthesisJob

    if author.model is None:
        raise Misuse("`--from-kb` needs a model that writes", "name it: `--model org/name`")
    excerpts = _excerpts(domain, workspace, author)
    engine = open_engine(author.model, EngineOptions(seed=author.seed))
    try:
        work = SynthesisJob(domain, excerpts, passage_block, author.checked)
        return _written(work, engine, Workspace(workspace).synthesis_log(domain))
    finally:
        engine.close()


def _find_contexts(
    domain: Domain, tasks: Sequence[Task], workspace: Path, layout: ContextOptions
) -> Contexts:
    """Put passages of a domain's knowledge base before its training questions, as a run does."""
    from finetune.data.sources.raft import Contexts, ContextSettings, context_rows
    from rag.corpus.source_files import own_licence
    from rag.treatment import as_passage, query

    _need_base(domain.name, workspace)
    licence = own_licence(domain)
    setting = ContextSettings(layout.distractors, seed=layout.seed)
    made = Contexts()
    with library(workspace) as shelves:
        retriever = shelves.open(domain.name)
        for task in tasks:
            asked = [each for each in task.questions if each.split == "train"]
            # More than are shown, because some that are near hold the answer too.
            found = retriever.search([query(each) for each in asked], 4 * (layout.distractors + 1))
            passages = [[as_passage(hit) for hit in hits] for hits in found]
            pairs = list(zip(asked, passages, strict=True))
            licences = {hit.chunk.id: hit.chunk.licence for hits in found for hit in hits}
            render = _renderer(task)
            made += context_rows(pairs, render, setting, licence=licence, licences=licences)
    return made


def _book_json(book: SyntheticTextbook) -> dict[str, Any]:
    """What is told of a textbook: who wrote it, and the yield of each kind."""
    return {
        "passages": book.passages,
        "checked": book.checked,
        "origin": dict(book.origin),
        "journal": book.journal.name,
        "rows": len(book.rows),
        "yield": {kind: asdict(found) for kind, found in book.yields.items()},
    }


def _contexts_json(made: Contexts) -> dict[str, int]:
    """The counts of rows with passages."""
    return {"rows": len(made.rows), "alone": made.alone, "skipped": made.skipped}


def _show_book(book: SyntheticTextbook) -> None:
    """Print the yield of each kind."""
    from rich.text import Text

    from reports.terminal import console, printable, table

    grid = table(
        "kind", "asked", "pieces", "kept", "rejected", right=frozenset({"asked", "pieces", "kept"})
    )
    for kind, found in book.yields.items():
        why = ", ".join(f"{reason} {count}" for reason, count in found.rejected.items())
        cells = (kind, f"{found.asked:,}", f"{found.pieces:,}", f"{found.kept:,}", why)
        grid.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(grid)
    how = "" if book.checked else ", not checked by log-probabilities"
    what = f"{book.passages:,} passages gave {len(book.rows):,} rows{how}"
    print(printable(f"{what}, written by {book.origin['model']} ({book.journal})"))


def _show_contexts(made: Contexts) -> None:
    """Print the counts of rows with passages."""
    print(
        f"{len(made.rows):,} rows with passages, {made.alone:,} of them without the right one; "
        f"for {made.skipped:,} questions no passage with the answer was found"
    )


def _excerpts(domain: str, workspace: Path, author: SynthesisOptions) -> list[Excerpt]:
    """The passages to write about, in their order; more of them include those of fewer."""
    from finetune.data.sampling import seeded_order
    from finetune.synthetic.prompts import Excerpt
    from rag.base import Hit
    from rag.index.index import Chunks
    from rag.index.store import KnowledgeBaseStore
    from rag.treatment import as_passage

    _need_base(domain, workspace)
    with KnowledgeBaseStore(Workspace(workspace).knowledge_bases).open(domain) as generation:
        chunks = Chunks(generation.folder, domain, generation.manifest.chunks)[:]
    rows = sorted(range(len(chunks)), key=lambda row: seeded_order(chunks[row].id, author.seed))
    chosen = [chunks[row] for row in sorted(rows[: author.passages])]
    return [Excerpt(as_passage(Hit(each, 1, 0.0)), each.licence) for each in chosen]


def _need_base(domain: str, workspace: Path) -> None:
    from rag.index.store import KnowledgeBaseStore

    if domain not in KnowledgeBaseStore(Workspace(workspace).knowledge_bases).names():
        raise BenchError(f"no knowledge base for `{domain}`", f"`bench kb build {domain}`")


def _written(work: SynthesisJob, engine: Engine, folder: Path) -> SyntheticTextbook:
    """Write, showing progress; Ctrl-C ends with the way on."""
    from finetune.synthetic.generate import synthesize
    from reports.progress import Stages

    stages = Stages(work.domain)
    try:
        return synthesize(work, engine, folder, stages)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped; what was written about `{work.domain}` is stored",
            "repeat the same command: it goes on where it stopped",
        ) from error
    finally:
        stages.end()


def _renderer(task: Task) -> RenderWith:
    """Render a question with passages as an evaluation with retrieval does."""
    from benchmarks.prompts import PromptBuilder, PromptFormat
    from domainlift.types import Treatment
    from finetune.data.question_rows import renderer

    plain = renderer(task)
    prompter = PromptBuilder(task, PromptFormat(task.mode, 0, chat=False))

    def render(question: Question, passages: Sequence[Passage]) -> tuple[str, str]:
        request = prompter.request(question, Treatment(tuple(passages)))
        return request.prompt.text, plain(question)[1]

    return render
