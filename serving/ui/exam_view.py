"""Pages of exams: their questions with passages, and a person's hand on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from domainlift.errors import Misuse
from improve.exam.exam import (
    SPLITS,
    Exam,
    ExamFiles,
    exam_names,
    read_exam,
    with_changed_question,
    without_questions,
    write_exam,
)
from serving.ui.pages import Pages, back_to, readable

_PAGE = 50


def exam_routes(pages: Pages) -> list[BaseRoute]:
    """The pages and their forms."""
    view = _ExamViews(pages)
    return [
        pages.get("/exams", view.exams),
        pages.get("/exams/{name}", view.exam),
        pages.post("/exams/{name}/drop", view.drop),
        pages.post("/exams/{name}/edit", view.edit),
    ]


@dataclass(frozen=True)
class _ExamViews:
    pages: Pages

    def exams(self, _: Mapping[str, str], __: Mapping[str, str]) -> Response:
        names = exam_names(self.pages.workspace)
        exams, notes = readable(names, lambda name: read_exam(self._files(name)))
        return self.pages.show("exams", here="/exams", exams=exams, notes=notes)

    def exam(self, names: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        """The questions of one split, or of both that are examined, a page at a time."""
        found = read_exam(self._files(names["name"]))
        split, text = fields.get("split", ""), fields.get("text", "").lower()
        chosen = [
            each
            for each in found.questions
            if (each.split == split if split else each.is_examined)
            and text in f"{each.question} {each.right} {each.id}".lower()
        ]
        given = fields.get("from", "")
        start = int(given) if given.isdecimal() and len(given) < 9 else 0
        values: dict[str, Any] = {
            "fields": {"split": split, "text": fields.get("text", "")},
            "splits": SPLITS,
        }
        rows = chosen[start : start + _PAGE]
        more = {"start": start, "whole": len(chosen), "size": _PAGE}
        return self.pages.show("exam", here="/exams", exam=found, rows=rows, page=more, **values)

    def drop(self, names: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        files, found = self._unchanged(names, fields)
        write_exam(files, without_questions(found, [fields.get("id", "")]))
        return back_to(f"/exams/{names['name']}")

    def edit(self, names: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        files, found = self._unchanged(names, fields)
        options = [*_options(fields)]
        right = fields.get(f"option{fields.get('answer', '')}", "").strip()
        question = fields.get("question", "").strip()
        if not question or not all(options):
            raise Misuse("the question and its options must say something")
        name = fields.get("id", "")
        write_exam(files, with_changed_question(found, name, question, options, right))
        return back_to(f"/exams/{names['name']}#q-{name}")

    def _unchanged(
        self, names: Mapping[str, str], fields: Mapping[str, str]
    ) -> tuple[ExamFiles, Exam]:
        """The exam that the page of a form showed; Misuse where it is another one by now."""
        files = self._files(names["name"])
        found = read_exam(files)
        if fields.get("digest") != found.digest:
            raise Misuse("the exam was changed since this page was loaded", "load it anew")
        return files, found

    def _files(self, name: str) -> ExamFiles:
        return ExamFiles(self.pages.workspace, name)


def _options(fields: Mapping[str, str]) -> Iterator[str]:
    """The options of a form, `option0` and so on."""
    keys = (f"option{place}" for place in count())
    return (fields[key].strip() for key in takewhile(fields.__contains__, keys))
