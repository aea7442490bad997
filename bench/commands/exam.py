"""`bench exam`: the questions that were made of documents, and a person's hand on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption, command_group
from domainlift.errors import Misuse
from domainlift.text.display import one_line, printable
from improve.documents import remake_exam
from improve.exam.exam import (
    Exam,
    ExamFiles,
    ExamQuestion,
    exam_names,
    read_exam,
    with_changed_question,
    without_questions,
    write_exam,
)
from improve.exam.exchange import export_questions, import_questions
from reports.terminal import print_json, print_note

exam = command_group("Show and edit the exams made of documents.")
Name = Annotated[str, typer.Argument(help="The domain of the documents.")]
Ids = Annotated[list[str], typer.Argument(help="Ids of questions, as `bench exam show` has them.")]


@exam.command("list")
def exam_list(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List the exams.

    Example: bench exam list
    """
    exams = [read_exam(ExamFiles(workspace, name)) for name in exam_names(workspace)]
    if as_json:
        rows = [{"domain": each.name, **each.counts()} for each in exams]
        print_json(rows)
        return
    if not exams:
        print_note("no exam yet: `bench improve --docs FOLDER` makes one of documents")
    for each in exams:
        print(exam_line(each))


@exam.command("show")
def exam_show(
    name: Name,
    split: Annotated[
        str | None, typer.Option(help="Of one split: train, validation, test or probe.")
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Show the questions that are examined, with their answers and passages.

    Training wordings are shown by `--split train`.

    Example: bench exam show handbook
    """
    found = read_exam(ExamFiles(workspace, name))
    questions = [
        each
        for each in found.questions
        if (each.is_examined if split is None else each.split == split)
    ]
    if as_json:
        print_json([asdict(each) for each in questions])
        return
    print(exam_line(found))
    for each in questions:
        print("\n" + "\n".join(map(printable, _lines(each))))


@exam.command("drop")
def exam_drop(name: Name, ids: Ids, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Take questions out of an exam; it is another exam then, and is looked at anew.

    Example: bench exam drop handbook 1f0c2a9b8d7e6f54-gap
    """
    files = ExamFiles(workspace, name)
    changed = without_questions(read_exam(files), ids)
    _write(files, changed)


@exam.command("edit")
def exam_edit(
    name: Name,
    question_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the question.")],
    question: Annotated[str | None, typer.Option(help="Its new wording.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="All of its options, one `--option` each.")
    ] = None,
    answer: Annotated[str | None, typer.Option(help="The text of the right option.")] = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Change the wording, the options or the answer of a question.

    Example: bench exam edit handbook 1f0c2a9b8d7e6f54-gap --answer copper
    """
    if question is None and option is None and answer is None:
        raise Misuse("nothing to change", "say `--question`, `--option` or `--answer`")
    files = ExamFiles(workspace, name)
    changed = with_changed_question(read_exam(files), question_id, question, option, answer)
    _write(files, changed)


@exam.command("export")
def exam_export(
    name: Name,
    path: Annotated[Path, typer.Argument(help="A file that ends in .jsonl or .csv.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Write an exam to a file, to read or change it elsewhere.

    Example: bench exam export handbook handbook.csv
    """
    found = read_exam(ExamFiles(workspace, name))
    export_questions(found, path)
    print(f"{len(found.questions)} questions in {path}")


@exam.command("import")
def exam_import(
    name: Name,
    path: Annotated[Path, typer.Argument(help="A file that `bench exam export` wrote.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Take over the questions of a file, in place of those that the exam has.

    Example: bench exam import handbook handbook.csv
    """
    files = ExamFiles(workspace, name)
    _write(files, import_questions(read_exam(files), path))


@exam.command("make")
def exam_make(name: Name, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Make the exam of a knowledge base anew; what was edited is kept beside it.

    Example: bench exam make handbook
    """
    files = ExamFiles(workspace, name)
    if name in exam_names(workspace) and read_exam(files).edited:
        aside = files.folder / f"exam-{read_exam(files).digest}.jsonl"
        shutil.copyfile(files.rows, aside)
        print(f"the edited questions are kept in {aside}")
    print(exam_line(remake_exam(files)))


def exam_line(found: Exam) -> str:
    """An exam in one line: its facts and questions, and what became of the rest."""
    counts = found.counts()
    kinds = ", ".join(f"{each.kept} {kind}" for kind, each in found.by_kind.items() if each.kept)
    known = f", {counts['known']} facts known already" if counts["known"] else ""
    edited = ", edited" if found.edited else ""
    return (
        f"exam `{found.name}` ({found.digest}{edited}): {counts['facts']} facts ({kinds})"
        f"{known}; {counts['questions']} questions asked, {counts['training_questions']} to learn"
    )


def _lines(question: ExamQuestion) -> Iterator[str]:
    known = ", known" if question.known else ""
    taught = "" if question.taught else ", not taught"
    yield f"{question.id}  {question.kind}, {question.split}{taught}{known}"
    yield f"  {question.question}"
    yield f"  {_options(question.options, question.answer)}"
    yield f"  {question.source}: {one_line(question.passage, 300)}"


def _options(options: Sequence[str], answer: int) -> str:
    marked = (f"[{text}]" if place == answer else text for place, text in enumerate(options))
    return " | ".join(marked)


def _write(files: ExamFiles, changed: Exam) -> None:
    write_exam(files, changed)
    print(exam_line(changed))
