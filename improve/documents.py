"""From a folder of documents to a domain: its knowledge base, and the exam made of it."""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.text.display import printable
from domainlift.workspace import Workspace
from improve.exam.exam import ExamFiles, check_enough, exam_names, read_exam, write_exam
from improve.exam.known import mark_known
from improve.exam.make import VERSION, make_exam
from knowledge_bases.domains import load_domains
from rag.index.build_domain import BuildSettings, build_from_files, domain_files
from rag.index.index import open_index
from rag.index.store import KnowledgeBaseStore
from reports.progress import Stages

if TYPE_CHECKING:
    from improve.exam.exam import Exam
    from improve.load_model import LazyEngine
    from improve.options import RunOptions

#: Questions to report on without which no verdict is tried.
LEAST_QUESTIONS = 12
_LICENCE = "own"


@dataclass(frozen=True)
class DocumentFolder:
    """The documents of a domain that has nothing else."""

    folder: Path
    name: str


def document_folder(folder: Path, name: str | None) -> DocumentFolder:
    """The folder and the name of its domain; Misuse where one of them cannot be used."""
    if not folder.exists():
        raise Misuse(f"no folder `{folder}`", "give the folder of your documents")
    named = name if name is not None else _slug(folder.resolve().name)
    if not re.fullmatch(r"[\w-]+", named):
        raise Misuse(f"`{named}` is no name of a domain", "give one: `--name handbook`")
    return DocumentFolder(folder, named)


def prepare_documents(
    documents: DocumentFolder, lazy: LazyEngine, options: RunOptions
) -> tuple[Exam, ExamFiles]:
    """Build the knowledge base and make the exam, where that is not done; write what is new.

    An exam that a person edited stays as it is while the documents are the same. BenchError where
    too few questions can be made.
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
        report = build_from_files(name, found, BuildSettings(), workspace, stages)
    for line in [*found.notes, *report.missing, *(f"left out: {each}" for each in report.refused)]:
        print(f"note: {printable(line)}", file=sys.stderr)
    files = ExamFiles(workspace, name)
    exam = _find_or_make(files, workspace)
    check_enough(exam, LEAST_QUESTIONS)
    digest = lazy.engine.info.digest
    if exam.known_by != digest and not exam.edited:
        exam = mark_known(exam, lazy.engine, options)
        write_exam(files, exam)
    check_enough(exam, LEAST_QUESTIONS)
    return exam, files


def _find_or_make(files: ExamFiles, workspace: Path) -> Exam:
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    generation = store.manifest(files.name).generation
    if files.name in exam_names(workspace):
        exam = read_exam(files)
        if exam.generation == generation and (exam.made_by == VERSION or exam.edited):
            return exam
        if exam.edited:
            print(
                f"note: the documents of `{files.name}` have changed, and the exam that was edited "
                f"is kept as it is; `bench exam make {files.name}` makes it anew",
                file=sys.stderr,
            )
            return exam
    return remake_exam(files, workspace)


def remake_exam(files: ExamFiles, workspace: Path) -> Exam:
    """Make the exam of a knowledge base anew and write it; BenchError where it has no question."""
    root = Workspace(workspace).knowledge_bases
    with (
        activity(f"making the exam of {files.name}"),
        open_index(root, files.name, exact=True) as index,
    ):
        exam = make_exam(files.name, index.manifest.generation, index.chunks)
    if not exam.questions:
        raise BenchError(
            f"no question can be made of the documents of `{files.name}`",
            "whole sentences with names, numbers or dates are needed; or give questions of your "
            "own: `bench improve --task FILE`",
        )
    write_exam(files, exam)
    return exam


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[^\w]+", "-", plain).strip("-") or "documents"
