"""Domains: what is shipped is whole, and what a user writes wrongly is named with its place."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domainlift.errors import Malformed
from knowledge_bases.domains import (
    BUILT_IN,
    Domain,
    companions,
    load_domain_file,
    load_domains,
)
from knowledge_bases.sources import Source, parse_location

MMLU_SUBJECTS = """
abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology
college_chemistry college_computer_science college_mathematics college_medicine college_physics
computer_security conceptual_physics econometrics electrical_engineering elementary_mathematics
formal_logic global_facts high_school_biology high_school_chemistry high_school_computer_science
high_school_european_history high_school_geography high_school_government_and_politics
high_school_macroeconomics high_school_mathematics high_school_microeconomics high_school_physics
high_school_psychology high_school_statistics high_school_us_history high_school_world_history
human_aging human_sexuality international_law jurisprudence logical_fallacies machine_learning
management marketing medical_genetics miscellaneous moral_disputes moral_scenarios nutrition
philosophy prehistory professional_accounting professional_law professional_medicine
professional_psychology public_relations security_studies sociology us_foreign_policy virology
world_religions
"""
OTHER_TASKS = {"gsm8k", "arc:easy", "arc:challenge"}
OF_HANDBOOK = {"handbook", "everyday", "language"}
WITH_QUESTIONS = {"biology", "history", "security", "mathematics", "philosophy", *OF_HANDBOOK}

GOOD = """\
title: Bees
description: Bees and what they do.
keywords: [hive, honey]
tasks: [own:bees]
"""


def write(workspace: Path, content: str | bytes, folder: str = "bees") -> Path:
    path = workspace / "domains" / folder / "domain.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("this system does not let us make links")


# --- what is shipped


def test_every_mmlu_subject_belongs_to_exactly_one_domain() -> None:
    tasks = Counter(task for domain in load_domains().values() for task in domain.tasks)
    subjects = MMLU_SUBJECTS.split()
    assert len(subjects) == 57
    assert tasks == Counter(
        {f"mmlu:{subject}" for subject in subjects}
        | OTHER_TASKS
        | {f"own:{name}" for name in WITH_QUESTIONS}
    )


def test_every_shipped_folder_is_a_domain() -> None:
    shipped = {path.parent.name for path in BUILT_IN.glob("*/domain.yaml")}
    assert list(load_domains()) == sorted(shipped)
    assert len(shipped) >= 15


def test_strengths_are_protected() -> None:
    protected = {name for name, domain in load_domains().items() if domain.protected}
    assert protected == {"mathematics", "philosophy", "reasoning", "everyday", "language"}


def test_the_domains_of_a_suite_keep_to_themselves() -> None:
    known = load_domains()
    assert {name for name, domain in known.items() if domain.suite} == OF_HANDBOOK
    assert set(companions(known, ["handbook"])) == OF_HANDBOOK
    assert set(companions(known, ["biology", "not declared"])) == known.keys() - OF_HANDBOOK
    assert companions(known, ["biology", "language"]) == known
    assert companions(known, []) == {}


def test_own_questions_and_documents_are_there_where_a_task_asks_for_them() -> None:
    for name, domain in load_domains().items():
        assert (domain.questions_file is not None) == (f"own:{name}" in domain.tasks)
        assert (domain.documents is not None) == (name in WITH_QUESTIONS)


@pytest.mark.parametrize("domain", load_domains().values(), ids=lambda d: d.name)
def test_a_shipped_domain_is_described_for_a_reader_and_a_router(domain: Domain) -> None:
    assert domain.description.endswith(".")
    assert 20 <= len(domain.keywords) <= 50
    assert all(keyword == keyword.lower() for keyword in domain.keywords)


@pytest.mark.parametrize(
    "source",
    [source for domain in load_domains().values() for source in domain.sources],
    ids=lambda source: source.where,
)
def test_a_shipped_source_is_credited(source: Source) -> None:
    assert parse_location(source.where)[0] in ("mirror", "hf")
    assert source.title
    assert source.url.startswith("https://")
    if "textbooks" in source.where:
        assert "OpenStax, Rice University" in source.title
        assert source.licence == ("CC BY 3.0" if "/biology" in source.where else "CC BY 4.0")


@pytest.mark.parametrize("name", ["biology", "history", "security"])
def test_the_weak_domains_have_sources(name: str) -> None:
    assert load_domains()[name].sources


def test_no_keyword_stands_in_two_shipped_domains() -> None:
    keywords = Counter(k for domain in load_domains().values() for k in domain.keywords)
    assert [k for k, count in keywords.items() if count > 1] == []


# --- what a user adds


def test_a_folder_in_the_workspace_adds_a_domain(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    added = load_domains(tmp_path)["bees"]
    assert added == load_domain_file(path)
    assert added == Domain(
        name="bees",
        title="Bees",
        description="Bees and what they do.",
        keywords=("hive", "honey"),
        tasks=("own:bees",),
        sources=(),
        protected=False,
        folder=path.parent,
    )
    assert (added.questions_file, added.documents) == (None, None)
    assert list(load_domains(tmp_path)) == [*load_domains(), "bees"]


def test_a_keyword_with_accents_stands_for_the_word_without_them_too(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("[hive, honey]", "[Café au lait, йод, hive]"))
    found = load_domains(tmp_path)["bees"]
    assert found.keywords == ("Café au lait", "cafe au lait", "йод", "hive")


def test_questions_and_documents_are_found(tmp_path: Path) -> None:
    folder = write(tmp_path, GOOD).parent
    (folder / "questions.jsonl").touch()
    (folder / "documents").mkdir()
    added = load_domains(tmp_path)["bees"]
    assert added.questions_file == folder / "questions.jsonl"
    assert added.documents == folder / "documents"


def test_sources_are_read_with_their_credits(tmp_path: Path) -> None:
    declared = """\
sources:
- {from: notes/cells.md, licence: CC0}
- from: mirror:textbooks/bees.jsonl.gz
  licence: CC BY 4.0
  title: All about bees
  url: https://bees.example
- from: hf:hives/honey:train
  licence: MIT
"""
    assert load_domain_file(write(tmp_path, GOOD + declared)).sources == (
        Source("notes/cells.md", "CC0"),
        Source(
            "mirror:textbooks/bees.jsonl.gz", "CC BY 4.0", "All about bees", "https://bees.example"
        ),
        Source("hf:hives/honey:train", "MIT"),
    )


def test_no_sources_may_be_declared(tmp_path: Path) -> None:
    assert load_domain_file(write(tmp_path, GOOD + "sources: []\n")).sources == ()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("../bees.md", "`../bees.md` leads out of the domain's folder"),
        ("/etc/passwd", "leads out of the domain's folder"),
        ("a\\..\\..\\b.md", "leads out of the domain's folder"),
        ("C:\\bees.md", "leads out of the domain's folder"),
        ("mirror:../bees.md", "leads out of the mirror"),
        ("mirror:/bees.md", "leads out of the mirror"),
        ("mirror:", "leads out of the mirror"),
        ("hf:honey", "names no data set; write a path, `mirror:PATH` or `hf:org/name[:split]`"),
        ("hf:hives/honey:a:b", "names no data set"),
        ("s3:honey", "`s3:` is no kind of source"),
        ("https://bees.example", "`https:` is no kind of source"),
    ],
)
def test_a_source_of_a_wrong_place_is_named(tmp_path: Path, where: str, said: str) -> None:
    path = write(tmp_path, GOOD + f"sources:\n- from: '{where}'\n  licence: MIT\n")
    with pytest.raises(Malformed) as caught:
        load_domain_file(path)
    assert caught.value.what.startswith(f"{path}:6: `from`: ")
    assert said in caught.value.what


def test_a_workspace_without_domains_is_fine(tmp_path: Path) -> None:
    assert load_domains(tmp_path) == load_domains(tmp_path / "absent") == load_domains()


def test_stray_files_and_hidden_folders_are_not_domains(tmp_path: Path) -> None:
    (tmp_path / "domains" / ".git").mkdir(parents=True)
    (tmp_path / "domains" / "README.md").touch()
    assert load_domains(tmp_path) == load_domains()


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("Bees and what they do.", ">\n  Bees and\n  what they do.\n"),
        GOOD + "name: bees\n",
        GOOD + "protected: no\n",
        "--- # bees\n" + GOOD + "...\n",
    ],
    ids=["bom", "crlf", "folded", "name", "flag", "document markers"],
)
def test_ways_of_writing_the_same(tmp_path: Path, content: str) -> None:
    written = load_domain_file(write(tmp_path / "a", content))
    plain = load_domain_file(write(tmp_path / "b", GOOD))
    assert (written.title, written.description) == (plain.title, plain.description)
    assert (written.sources, written.protected) == (plain.sources, plain.protected)


# --- what a user writes wrongly: content, line, what, hint

BAD: dict[str, tuple[str | bytes, int | None, str, str]] = {
    "unknown key": (GOOD + "titel: B\n", 5, "unknown key `titel`", "did you mean `title`?"),
    "far key": (GOOD + "xyzzy: B\n", 5, "unknown key `xyzzy`", "it must have `title`, "),
    "key that is a list": (GOOD + "? [a]\n: b\n", 5, "a key must be a text, not a list", ""),
    "key with a line break": (GOOD + '"a\\nb": B\n', 5, "unknown key `a\ufffdb`", ""),
    "merge key": (GOOD + "<<: {title: B}\n", 5, "unknown key `<<`", ""),
    "missing key": (GOOD.replace("title", "name", 1), 1, "key `title` is missing", "add `title: "),
    "missing tasks": ("\n" + GOOD[: GOOD.index("tasks")], 2, "key `tasks` is missing", ""),
    "duplicate key": (GOOD + "title: B\n", 5, "key `title` stands twice, first in line 1", ""),
    "text is a list": (GOOD.replace("Bees\n", "[B]\n"), 1, "must be a text, not a list", ""),
    "text is a number": (GOOD.replace("Bees\n", "12\n"), 1, "not a number", "put it in quotes"),
    "text is a date": (GOOD.replace("Bees\n", "2020-01-01\n"), 1, "not a date", "in quotes"),
    "text is absent": (GOOD.replace("Bees\n", "\n"), 1, "`title` must be a text, not nothing", ""),
    "empty title": (GOOD.replace("Bees\n", "''\n"), 1, "`title` is empty", ""),
    "blank title": (GOOD.replace("Bees\n", "' \t'\n"), 1, "`title` is empty", ""),
    "control character": (
        *(GOOD.replace("Bees\n", '"\\e[31m"\n'), 1),
        *("`title` holds a control character", ""),
    ),
    "half a character": (
        *(GOOD.replace("Bees\n", '"\\ud800"\n'), 1),
        *("`title` holds a control character", ""),
    ),
    "list is a text": (
        *(GOOD.replace("[hive, honey]", "hive, honey"), 3),
        *("`keywords` must be a list of texts, not a text", "write `keywords: ["),
    ),
    "list is absent": (
        *(GOOD.replace(" [hive, honey]", ""), 3),
        *("`keywords` must be a list of texts, not nothing", "write `keywords: ["),
    ),
    "tables are absent": (
        *(GOOD + "sources:\n", 5),
        *("`sources` must be a list of keys with values, not nothing", "must have `from`, `lic"),
    ),
    "tables are one table": (
        *(GOOD + "sources: {from: a.md, licence: MIT}\n", 5),
        *("`sources` must be a list of keys with values, not keys with values", "write `sources:"),
    ),
    "table is a text": (
        *(GOOD + "sources:\n- {from: a.md, licence: MIT}\n- b.md\n", 7),
        *("`sources` must be a list of keys with values, but item 2 is a text", "`from`"),
    ),
    "table without a key": (
        *(GOOD + "sources:\n- {from: a.md, licence: MIT}\n- from: b.md\n", 7),
        *("key `licence` is missing in item 2 of `sources`", "add `licence: "),
    ),
    "table with an unknown key": (
        *(GOOD + "sources:\n- from: a.md\n  license: MIT\n", 7),
        *("unknown key `license`", "did you mean `licence`?"),
    ),
    "table with a number": (
        *(GOOD + "sources:\n- from: a.md\n  licence: 3\n", 7),
        *("`licence` must be a text, not a number", "put it in quotes"),
    ),
    "table with a key twice": (
        *(GOOD + "sources:\n- from: a.md\n  licence: MIT\n  from: b.md\n", 8),
        *("key `from` stands twice, first in line 6", ""),
    ),
    "source twice": (
        *(GOOD + "sources:\n- {from: a.md, licence: A}\n- {from: a.md, licence: B}\n", 7),
        *("`sources` holds `a.md` twice", ""),
    ),
    "item is a flag": (
        *(GOOD.replace("[hive, honey]", "\n- hive\n- no"), 5),
        *("`keywords` must be a list of texts, but item 2 is true or false", "put it in quotes"),
    ),
    "item is a mapping": (GOOD.replace("own:bees", "own: bees"), 4, "item 1 is keys with", ""),
    "empty item": (GOOD.replace("honey", "''"), 3, "`keywords` holds an empty text", ""),
    "item twice": (GOOD.replace("honey", "hive"), 3, "`keywords` holds `hive` twice", ""),
    "flag is a text": (
        *(GOOD + "protected: maybe\n", 5),
        *("`protected` must be true or false, not a text", ""),
    ),
    "flag by tag": (GOOD + "protected: !!bool maybe\n", 5, "must be true or false", ""),
    "unknown tag": (GOOD.replace("Bees\n", "!thing B\n"), 1, "a value with the tag `!thing`", ""),
    "tag with a line break": (GOOD.replace("Bees\n", "!a%0Ab B\n"), 1, "the tag `!a\ufffdb`", ""),
    "list with the tag of a text": (GOOD.replace("Bees\n", "!!str [B]\n"), 1, "not a list", ""),
    "python tag": (
        *(GOOD.replace("Bees\n", "!!python/object/apply:os.getcwd []\n"), 1),
        *("`title` must be a text, not a list", ""),
    ),
    "other name": (
        *(GOOD + "name: wasps\n", 5),
        *("`name` is `wasps`, but the folder is `bees`", "rename the folder"),
    ),
    "task of a built-in domain": (
        *(GOOD.replace("[own:bees]", "\n- own:bees\n- mmlu:virology"), 6),
        *("`tasks` claims `mmlu:virology`, which belongs to domain `medicine`", "leave it out"),
    ),
    "syntax": (GOOD + "name: a: b\n", 5, "mapping values are not allowed here", "needs quotes"),
    "open bracket": (GOOD + "sources: [a\n", 6, "not YAML: while parsing a flow sequence", ""),
    "tabulator": (GOOD + "\tname: bees\n", 5, "found character '\\t'", ""),
    "two documents": (GOOD + "---\n" + GOOD, 5, "but found another document", ""),
    "NUL": (GOOD + "name: b\0\n", 5, "character U+0000 is not allowed", ""),
    "alias": (GOOD + "sources: &a [b]\nname: *a\n", 6, "alias `*a` is not allowed", "in quotes"),
    "alias to nowhere": (GOOD + "sources: [*bold]\n", 5, "alias `*bold` is not allowed", ""),
    "alias bomb": (
        *("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", 2),
        *("alias `*a` is not allowed", ""),
    ),
    "deep": (GOOD + "sources: " + "[" * 100_000, None, "nested too deeply", ""),
    "large": (GOOD + "#" * 1_000_000, None, "file is larger than 1000 kB", ""),
    "empty": ("", 1, "file is empty", "it must have `title`"),
    "only a comment": ("# bees\n", 1, "file is empty", ""),
    "list": ("- title\n", 1, "must hold keys with values, not a list", ""),
    "Latin-1": (GOOD.encode() + "name: é".encode("latin-1"), 5, "not UTF-8", "save the file"),
    "UTF-16": (GOOD.encode("utf-16"), 1, "not UTF-8", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_key_and_line(tmp_path: Path, case: str) -> None:
    content, line, what, hint = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(Malformed) as caught:
        load_domains(tmp_path)
    place = str(path) if line is None else f"{path}:{line}"
    assert caught.value.what.startswith(f"{place}: ")
    assert what in caught.value.what
    assert "\n" not in caught.value.what
    assert hint in str(caught.value.hint)


def test_a_task_claimed_by_two_domains_of_the_workspace(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    second = write(tmp_path, GOOD, "hives")
    with pytest.raises(Malformed, match="belongs to domain `bees`") as caught:
        load_domains(tmp_path)
    assert f"{second}:4: " in caught.value.what


@pytest.mark.parametrize(("extra", "place"), [("", ""), ("name: biology\n", ":5")])
def test_the_name_of_a_built_in_domain_is_taken(tmp_path: Path, extra: str, place: str) -> None:
    path = write(tmp_path, GOOD + extra, "biology")
    with pytest.raises(Malformed, match="`biology` is that of a built-in") as caught:
        load_domains(tmp_path)
    assert caught.value.what.startswith(f"{path}{place}: ")


@pytest.mark.parametrize("folder", ["Bees", "my bees", "bées", "bees.old", "b+"])
def test_a_folder_name_with_other_characters_is_refused(tmp_path: Path, folder: str) -> None:
    path = write(tmp_path, GOOD, folder)
    with pytest.raises(Malformed, match="may hold only a-z, 0-9, `_` and `-`") as caught:
        load_domains(tmp_path)
    assert str(path.parent) in caught.value.what


def test_a_folder_without_a_domain_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.rename(path.with_suffix(".yml"))
    with pytest.raises(Malformed, match=r"bees: no `domain\.yaml` in this folder"):
        load_domains(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="cannot be read"):
        load_domain_file(tmp_path / "bees" / "domain.yaml")


@pytest.mark.parametrize("part", ["", "domain.yaml", "questions.jsonl", "documents"])
def test_a_link_out_of_the_workspace_is_refused(tmp_path: Path, part: str) -> None:
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    elsewhere = write(outside, GOOD).parent
    (elsewhere / "questions.jsonl").touch()
    (elsewhere / "documents").mkdir()
    if part:
        path = write(workspace, GOOD).parent / part
        path.unlink(missing_ok=True)
    else:
        path = workspace / "domains" / "bees"
        path.parent.mkdir(parents=True)
    link(path, elsewhere / part)
    with pytest.raises(Malformed, match="link leads out of the workspace") as caught:
        load_domains(workspace)
    assert caught.value.what.startswith(f"{path}: ")


def test_links_within_the_workspace_and_to_the_workspace_are_followed(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    folder = write(workspace, GOOD, "bees").parent
    (workspace / "texts").mkdir()
    link(folder / "documents", workspace / "texts")
    link(tmp_path / "other", workspace)
    assert load_domains(tmp_path / "other")["bees"].documents is not None


def test_a_loop_of_links_is_no_domain(tmp_path: Path) -> None:
    # Python up to 3.12 refuses to resolve the loop, later ones leave it as it is: no domain either
    (tmp_path / "domains").mkdir()
    link(tmp_path / "domains" / "bees", tmp_path / "domains" / "bees")
    with suppress(Malformed):
        assert load_domains(tmp_path) == load_domains()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from([*GOOD.splitlines(True), *"[]{}&*!:-?|>'\"%@`#\n\t ", "a", "name: "])
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_bytes_load_or_are_malformed(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = write(tmp_path_factory.mktemp("any"), content)
    error = None
    try:
        load_domain_file(path)
    except Malformed as caught:
        error = caught
    assert error is None or (str(path) in error.what and "\n" not in error.what)


def test_importing_the_loader_does_not_import_yaml() -> None:
    code = "import sys, knowledge_bases.domains; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
