"""From a folder of documents to a domain: its knowledge base, and the exam made of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.hints import copyable
from domainlift.workspace import Workspace
from engines.registry import SMOLLM2, TINY, EngineOptions, open_engine
from improve.exam.exam import (
    Exam,
    ExamFiles,
    check_enough,
    exam_names,
    read_exam,
    with_feedback,
    write_exam,
)
from improve.exam.fact_finder import find_facts
from improve.exam.known import mark_known
from improve.exam.make import make_exam, sampled_chunks
from improve.exam.writer import WrittenFacts, write_questions
from improve.load_model import LazyEngine
from improve.options import RunOptions
from knowledge_bases.domains import load_domains
from rag.base import Chunk
from rag.embedding.registry import DEFAULT
from rag.index.build import BuildOptions
from rag.index.build_domain import build_from_files, domain_files
from rag.index.index import open_index
from rag.index.store import KnowledgeBaseStore
from rag.library import open_cached
from reports.progress import Stages
from reports.terminal import print_note

#: Questions to report on without which no verdict is tried.
LEAST_QUESTIONS = 12
#: Facts that make a writer needless, and the name of none.
FEW_FACTS, NO_WRITER = 60, "none"
_LICENCE = "own"


@dataclass(frozen=True)
class DocumentFolder:
    """The documents of a domain that has nothing else; `writer` as `document_folder` has it."""

    folder: Path
    name: str
    writer: str | None = None


def document_folder(folder: Path, name: str | None, writer: str | None) -> DocumentFolder:
    """The folder and the name of its domain; Misuse where one of them cannot be used.

    `writer` is a model that writes questions, `NO_WRITER` for none, and None for the model itself
    where its documents give few facts without one.
    """
    if not folder.exists():
        raise Misuse(f"no folder `{folder}`", "give the folder of your documents")
    named = name if name is not None else _slug(folder.resolve().name)
    if not re.fullmatch(r"[\w-]+", named):
        raise Misuse(f"`{named}` is no name of a domain", "give one: `--name handbook`")
    return DocumentFolder(folder, named, writer)


def prepare_documents(
    documents: DocumentFolder, lazy: LazyEngine, options: RunOptions, *, ask: bool = True
) -> tuple[Exam, ExamFiles]:
    """Build the knowledge base and make the exam, where that is not done; write what is new.

    An exam that a person edited stays as it is. Unless `ask`, no model is asked: none writes, and
    what is known is not found out. BenchError where too few questions can be made.
    """
    name, workspace = documents.name, options.workspace
    domains = load_domains(workspace)
    if name in domains:
        hint = (
            f"give another name, `--name own-{name}`, or add its files by `bench kb build {name}`"
        )
        raise Misuse(f"`{name}` is a declared domain", hint)
    found = domain_files(name, domains, options.data, (str(documents.folder),), _LICENCE)
    with Stages(name) as stages:
        model = BuildOptions(open_cached(DEFAULT, workspace))
        report = build_from_files(name, found, model, workspace, stages)
    for line in [*found.notes, *report.missing, *(f"left out: {each}" for each in report.refused)]:
        print_note(line)
    files = ExamFiles(workspace, name)
    exam = _find_or_make(files, documents.writer if ask else NO_WRITER, lazy)
    check_enough(exam, LEAST_QUESTIONS)
    if ask and exam.known_by != lazy.engine.info.digest and not exam.edited:
        exam = mark_known(exam, lazy.engine, options)
        write_exam(files, exam)
    check_enough(exam, LEAST_QUESTIONS)
    return exam, files


def _find_or_make(files: ExamFiles, writer: str | None, lazy: LazyEngine) -> Exam:
    store = KnowledgeBaseStore(Workspace(files.workspace).knowledge_bases)
    generation = store.manifest(files.name).generation
    before = read_exam(files) if files.name in exam_names(files.workspace) else None
    if before is not None and before.edited:
        if before.generation != generation:
            anew = copyable(f"`bench exam make {files.name}` makes it anew")
            print_note(
                f"the documents of `{files.name}` have changed, and the exam that was edited "
                f"is kept as it is; {anew}"
            )
        return before
    with (
        activity(f"making the exam of {files.name}"),
        open_index(Workspace(files.workspace).knowledge_bases, files.name, exact=True) as index,
    ):
        chunks = sampled_chunks(index.chunks)
        written = _written(files, chunks, writer, lazy)
        exam = make_exam(files.name, generation, chunks, written)
    if before is not None and (before.generation, before.made_by) == (generation, exam.made_by):
        return before
    return _write_new(files, exam)


def remake_exam(files: ExamFiles) -> Exam:
    """Make the exam of a knowledge base anew, without a writer; BenchError without a question."""
    root = Workspace(files.workspace).knowledge_bases
    with (
        activity(f"making the exam of {files.name}"),
        open_index(root, files.name, exact=True) as index,
    ):
        exam = make_exam(files.name, index.manifest.generation, index.chunks)
    return _write_new(files, exam)


def _write_new(files: ExamFiles, exam: Exam) -> Exam:
    if not exam.questions:
        found = sum(each.asked for each in exam.by_kind.values())
        need = (
            f"facts found: {found}, but not what could be wrong answers: more documents"
            if found
            else "whole English sentences with names, numbers or dates"
        )
        raise BenchError(
            f"no question can be made of the documents of `{files.name}`",
            f"{need} are needed; `--writer MODEL` has a model write them, "
            "`bench improve --task FILE` takes your own",
        )
    if files.name in exam_names(files.workspace):
        exam = with_feedback(exam, read_exam(files).questions)
    write_exam(files, exam)
    return exam


def _written(
    files: ExamFiles, chunks: Sequence[Chunk], writer: str | None, lazy: LazyEngine
) -> WrittenFacts | None:
    """What a model writes: the one that is named, or the model itself where sentences give little.

    The embedded models are too weak to write.
    """
    folder = Workspace(files.workspace).synthesis_log(f"{files.name}-exam")
    if writer == NO_WRITER:
        return None
    if writer is not None and writer != lazy.spec.model:
        with (
            closing(open_engine(writer, EngineOptions())) as engine,
            Stages(files.name) as stages,
        ):
            return write_questions(files.name, chunks, engine, folder, stages)
    itself = writer is None and lazy.spec.model not in (TINY, SMOLLM2)
    few = itself and sum(1 for _ in islice(find_facts(chunks), FEW_FACTS)) < FEW_FACTS
    if writer is None and not (few and lazy.engine.info.has_chat_template):
        return None
    with Stages(files.name) as stages:
        return write_questions(files.name, chunks, lazy.engine, folder, stages)


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[^\w]+", "-", plain).strip("-") or "documents"
