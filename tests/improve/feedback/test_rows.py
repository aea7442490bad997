from __future__ import annotations

from pathlib import Path

from finetune.data.build_dataset import BenchmarkIndexes, DatasetSpec, build_dataset
from improve.feedback.accept import accept
from improve.feedback.marks import Use
from improve.train import rows_of_feedback
from knowledge_bases.domains import bare_domain
from tests.improve.feedback.test_feedback import marked


def test_accepted_rows_are_learned(tmp_path: Path) -> None:
    assert rows_of_feedback(tmp_path, "handbook") == ()
    mark = marked(tmp_path, Use.ROWS)
    assert rows_of_feedback(tmp_path, "handbook") == ()
    accept(tmp_path, mark)
    domain, files = bare_domain("handbook", tmp_path), rows_of_feedback(tmp_path, "handbook")
    spec = DatasetSpec(domain, {}, tmp_path / "data", None, files, own=True)
    build_dataset(spec, [], BenchmarkIndexes(print), print)
    rows = (tmp_path / "data" / "train.jsonl").read_text()
    assert mark.reply.question in rows
    assert "28 days" in rows
