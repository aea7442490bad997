from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from domainlift.errors import BenchError, EngineDown, Malformed
from domainlift.text.contamination import QuestionIndex
from domainlift.types import Question
from engines.base import Mode
from finetune.synthetic.generate import SyntheticTextbook
from finetune.synthetic.grounding import SETTINGS
from finetune.synthetic.prompts import KINDS
from tests.helpers import fake_writer as writer


def told(book: SyntheticTextbook) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in book.rows:
        found.setdefault(row.kind, []).append(row.completion.strip())
    return found


def test_good_pieces_are_kept_and_made_up_ones_rejected(tmp_path: Path) -> None:
    book = writer.written(writer.FakeWriter(), tmp_path)
    rows = told(book)
    assert rows["passage"] == [writer.ROSES, writer.CACTI]
    assert rows["rewrite"] == [
        "In February roses are pruned, before the buds break.",
        "Roses are, before the buds break, pruned.",
        "Every 14 days a cactus is watered.",
    ]
    assert rows["dialogue"] == [
        "Student: When are the roses pruned?\nTeacher: Roses are pruned in February."
    ]
    assert rows["exercise"] == ["February", "every 14 days"]
    rejected = {kind: dict(found.rejected) for kind, found in book.yields.items()}
    assert rejected["rewrite-simple"] == {"empty": 2, "not told by the passage": 1}
    assert rejected["rewrite-notes"] == {"copied": 1, "empty": 2, "told already": 1}
    assert rejected["rewrite-reversed"] == {
        "a number that the passage has not": 1,
        "empty": 2,
        "the model would say something else": 1,
    }
    assert rejected["rewrite-entry"] == {"mixes what the passage says apart": 1, "empty": 1}
    assert rejected["questions"] == {"an answer of another kind": 1, "empty": 1}
    assert {row.licence for row in book.rows} == {"CC0"}


def test_no_wording_of_a_question_is_learned_that_is_asked_later(tmp_path: Path) -> None:
    later = Question("1", "g", "t", "How often is a cactus watered?", ("every 14 days", "never"), 0)
    book = writer.written(writer.FakeWriter(), tmp_path, asked=QuestionIndex([later], short=True))
    assert book.yields["questions"].rejected["asked in a benchmark"] == 1
    assert told(book)["exercise"] == ["February"]
    assert "Every 14 days a cactus is watered." in told(book)["rewrite"]


def test_the_yield_adds_up(tmp_path: Path) -> None:
    book = writer.written(writer.FakeWriter(), tmp_path)
    assert list(book.yields) == list(KINDS)
    for found in book.yields.values():
        assert found.asked == book.passages == 3
        assert found.pieces == found.kept + sum(found.rejected.values()) >= found.asked
    assert sum(found.kept for found in book.yields.values()) == 6


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    first = writer.written(writer.FakeWriter(), tmp_path)
    again = writer.FakeWriter()
    assert writer.written(again, tmp_path) == first
    assert again.asked == []


@pytest.mark.parametrize("stop", [0, 1, 7, 17, 18, 20, 29])
@pytest.mark.parametrize("error", [KeyboardInterrupt, EngineDown("it is gone")])
def test_what_was_answered_before_a_stop_is_not_asked_again(
    tmp_path: Path, stop: int, error: BaseException | type[BaseException]
) -> None:
    whole = writer.FakeWriter()
    expected = writer.written(whole, tmp_path / "undisturbed")

    def before(number: int) -> None:
        if number == stop:
            raise error

    first = writer.FakeWriter(before=before)
    with pytest.raises((KeyboardInterrupt, EngineDown)):
        writer.written(first, tmp_path / "stopped")
    second = writer.FakeWriter()
    book = writer.written(second, tmp_path / "stopped")
    assert [*first.asked, *second.asked] == whole.asked
    assert (book.rows, book.yields) == (expected.rows, expected.yields)


def test_a_killed_process_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    script = Path(writer.__file__)
    command = [sys.executable, str(script), str(tmp_path / "killed")]
    with subprocess.Popen(
        command, cwd=script.parents[2], stdout=subprocess.PIPE, text=True, env=_paths(script)
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "10":
                process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                break
    rest = writer.FakeWriter()
    book = writer.written(rest, tmp_path / "killed")
    whole = writer.FakeWriter()
    assert book.rows == writer.written(whole, tmp_path / "undisturbed").rows
    assert len(rest.asked) == len(whole.asked) - 10


def _paths(script: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(script.parents[2])}


def test_a_torn_line_is_cut_off_and_asked_again(tmp_path: Path) -> None:
    book = writer.written(writer.FakeWriter(), tmp_path)
    content = book.journal.read_bytes()
    book.journal.write_bytes(content[:-9])
    again = writer.FakeWriter()
    assert writer.written(again, tmp_path) == book
    assert len(again.asked) == 1
    assert sorted(book.journal.read_bytes().splitlines()) == sorted(content.splitlines())


def test_a_line_that_is_not_ours_is_named(tmp_path: Path) -> None:
    book = writer.written(writer.FakeWriter(), tmp_path)
    lines = book.journal.read_bytes().splitlines(keepends=True)
    book.journal.write_bytes(b"".join([lines[0], b"{}\n", *lines[1:]]))
    with pytest.raises(Malformed, match=r"jsonl:2: no line of ours"):
        writer.written(writer.FakeWriter(), tmp_path)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    def before(_: int) -> None:
        writer.written(writer.FakeWriter(), tmp_path)

    with pytest.raises(BenchError, match="is being written"):
        writer.written(writer.FakeWriter(before=before), tmp_path)


def test_the_journal_says_where_everything_comes_from(tmp_path: Path) -> None:
    book = writer.written(writer.FakeWriter(), tmp_path)
    lines = [json.loads(line) for line in book.journal.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["origin"] == book.origin
    assert set(book.origin) == {"engine", "model", "digest", "options", "chat", "prompts"}
    replies = [line["reply"] for line in lines if "reply" in line]
    assert {(each["passage"], each["kind"]) for each in replies} == {
        (excerpt.passage.id, kind) for excerpt in writer.garden() for kind in KINDS
    }
    pieces = {line["measure"]["piece"] for line in lines if "measure" in line}
    settings = {line["measure"]["setting"] for line in lines if "measure" in line}
    assert settings == set(SETTINGS)
    for row in book.rows:
        name = row.source.split("/")[-1]
        assert name in {*KINDS, *pieces, "passage"}


def test_another_model_starts_anew(tmp_path: Path) -> None:
    writer.written(writer.FakeWriter(), tmp_path)
    other = writer.FakeWriter(replace(writer.INFO, digest="sha256:78"))
    writer.written(other, tmp_path)
    assert len(other.asked) > len(KINDS)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_more_passages_ask_only_for_what_is_new(tmp_path: Path) -> None:
    writer.written(writer.FakeWriter(), tmp_path, excerpts=writer.garden()[:2])
    more = writer.FakeWriter()
    writer.written(more, tmp_path)
    assert [name.split("/")[0] for name in more.asked] == ["ponds"] * len(KINDS)


def test_what_is_not_answered_is_asked_again(tmp_path: Path) -> None:
    book = writer.written(writer.FakeWriter(failing="A cactus is watered"), tmp_path)
    assert all(found.rejected["not answered"] == 1 for found in book.yields.values())
    again = writer.FakeWriter()
    writer.written(again, tmp_path)
    assert {f"cacti/{kind}" for kind in KINDS} <= set(again.asked)


@pytest.mark.parametrize(("context", "reason"), [(90, "beyond the context"), (None, "empty")])
def test_a_context_that_is_too_small_is_told(
    tmp_path: Path, context: int | None, reason: str
) -> None:
    info = replace(writer.INFO, context=context)
    book = writer.written(writer.FakeWriter(info, table={}), tmp_path)
    assert all(reason in found.rejected for found in book.yields.values())
    assert book.rows == ()


def test_a_cut_off_reply_is_rejected(tmp_path: Path) -> None:
    table = {("Roses", "rewrite-entry"): "roses are pruned " * 200}
    book = writer.written(writer.FakeWriter(table=table), tmp_path)
    assert book.yields["rewrite-entry"].rejected["cut off"] == 1


def test_a_model_without_a_template_continues_a_text(tmp_path: Path) -> None:
    info = replace(writer.INFO, has_chat_template=False)
    table = {
        ("Cacti", "questions"): "Question: How often is a cactus watered?\nAnswer: every 14 days"
    }
    book = writer.written(writer.FakeWriter(info, table=table), tmp_path)
    assert told(book)["exercise"] == ["every 14 days"]


def test_an_engine_without_log_probabilities_is_checked_by_words(tmp_path: Path) -> None:
    info = replace(writer.INFO, engine="ollama", modes=frozenset({Mode.LETTER, Mode.GENERATE}))
    blind = writer.FakeWriter(info)
    book = writer.written(blind, tmp_path)
    assert not book.checked
    assert len(blind.asked) == 3 * len(KINDS)
    # What only the log-probabilities would have found out comes through.
    assert "February, roses, buds, and break the pruned." in told(book)["rewrite"]
    assert book.yields["rewrite-simple"].rejected["not told by the passage"] == 1


def test_progress_counts_what_is_open(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    work = writer.SynthesisJob("gardening", writer.garden()[:1])
    writer.synthesize(work, writer.FakeWriter(), tmp_path, lambda *stage: seen.append(stage))
    assert seen[0] == ("writing", 0, len(KINDS))
    assert seen[len(KINDS)] == ("writing", len(KINDS), len(KINDS))
    assert {stage for stage, _, _ in seen} == {"writing", "checking"}
