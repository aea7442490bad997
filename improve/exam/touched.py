"""Questions of an exam whose passage has changed or is gone from the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from improve.exam.exam import ExamFiles, ExamQuestion, exam_names, read_exam
from rag.corpus.documents import load_documents
from rag.corpus.readers.base import SourceFile
from rag.index.sync import SourceChanges


def touched_questions(
    workspace: Path, domain: str, changes: SourceChanges, files: Sequence[SourceFile]
) -> list[ExamQuestion]:
    """The examined questions of a domain whose passage no file holds any more, in their order.

    Of a changed file the passage itself is looked for; one that stands there as before is
    untouched. A domain without an exam has none.
    """
    if domain not in exam_names(workspace):
        return []
    lost = {*changes.changed, *changes.gone}
    asked = [q for q in read_exam(ExamFiles(workspace, domain)).questions if q.is_examined]
    suspects = [q for q in asked if _label(q.support, lost)]
    texts = _texts({_label(q.support, lost) for q in suspects} & set(changes.changed), files)
    return [q for q in suspects if q.passage not in texts.get(_label(q.support, lost), "")]


def _label(support: str, labels: set[str]) -> str:
    """The file of a document among these; a document of a file is named `file#record`."""
    if support in labels:
        return support
    return next((each for each in labels if support.startswith(f"{each}#")), "")


def _texts(labels: set[str], files: Sequence[SourceFile]) -> Mapping[str, str]:
    """The text of changed files as they are read now; "" for one that cannot be read."""
    return {
        file.label: "\n".join(each.page_content for each in load_documents([file]).documents)
        for file in files
        if file.label in labels
    }
