"""Questions whose passage has changed or is gone: those of an exam, and a domain's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tasks.registry import load_optional
from domainlift.workspace import Workspace
from improve.exam.exam import ExamFiles, exam_names, read_exam
from knowledge_bases.domains import Domain
from rag.corpus.documents import load_documents
from rag.corpus.readers.base import SourceFile
from rag.index.index import Chunks
from rag.index.store import KnowledgeBaseStore
from rag.index.sync import SourceChanges


@dataclass(frozen=True)
class _Supported:
    """A question, the document that holds its answer, and the passages of it that do."""

    id: str
    support: str
    passages: tuple[str, ...]


def touched_questions(
    workspace: Path,
    domain: str,
    domains: Mapping[str, Domain],
    changes: SourceChanges,
    files: Sequence[SourceFile],
) -> list[str]:
    """The ids of examined questions whose passage no file holds any more.

    They are those of the domain's exam, and of its own questions for validation and test that name
    their `support`, a document of the domain. Of a changed file the passage itself is looked for;
    one that stands there as before is untouched.
    """
    lost = {*changes.changed, *changes.gone}
    if not lost:
        return []
    asked = [*_exam(workspace, domain), *_own(workspace, domain, domains, lost)]
    suspects = [(each, _label(each.support, lost)) for each in asked]
    texts = _texts({label for _, label in suspects} & set(changes.changed), files)
    return [
        each.id
        for each, label in suspects
        if label and not all(passage in texts.get(label, "") for passage in each.passages)
    ]


def _exam(workspace: Path, domain: str) -> Iterator[_Supported]:
    if domain in exam_names(workspace):
        for each in read_exam(ExamFiles(workspace, domain)).questions:
            if each.is_examined:
                yield _Supported(each.id, each.support, (each.passage,))


def _own(
    workspace: Path, domain: str, domains: Mapping[str, Domain], lost: Collection[str]
) -> Iterator[_Supported]:
    if domain not in domains or domains[domain].questions_file is None:
        return
    passages = _chunks(workspace, domain, lost)
    for split in ("validation", "test"):
        task = load_optional(f"own:{domain}", data=None, domains=domains, split=split)
        for each in task.questions if task is not None else ():
            if each.support:
                yield _Supported(each.id, each.support, tuple(passages[each.support]))


def _chunks(workspace: Path, domain: str, labels: Collection[str]) -> Mapping[str, list[str]]:
    """The published chunks of some files, by document."""
    found: dict[str, list[str]] = defaultdict(list)
    with KnowledgeBaseStore(Workspace(workspace).knowledge_bases).open(domain) as generation:
        chunks, start = Chunks(generation.folder, domain, generation.manifest.chunks), 0
        for source in generation.manifest.sources:
            if source.label in labels:
                for chunk in chunks[start : start + source.chunks]:
                    found[chunk.source].append(chunk.text)
            start += source.chunks
    return found


def _label(support: str, labels: Collection[str]) -> str:
    """The file of a document among these, "" for none; one of several is named `file#record`."""
    if support in labels:
        return support
    return next((each for each in labels if support.startswith(f"{each}#")), "")


def _texts(labels: Collection[str], files: Sequence[SourceFile]) -> Mapping[str, str]:
    """The text of changed files as they are read now; "" for one that cannot be read."""
    return {
        file.label: "\n".join(each.page_content for each in load_documents([file]).documents)
        for file in files
        if file.label in labels
    }
