"""Finding files: in order, once each, named the same everywhere, and nothing from outside."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from domainlift.errors import Misuse
from knowledge_bases.domains import load_domains
from knowledge_bases.sources import Source
from rag.corpus import source_files as rag_files
from rag.corpus.source_files import Found, domain_sources, find_files


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return root


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system does not let us make links")


def given(*paths: Path | str, licence: str = "") -> Found:
    names = [str(path) for path in paths]
    return find_files((), folder=Path(), data=None, given=names, licence=licence)


def labels(found: Found) -> list[str]:
    return [file.label for file in found.files]


def test_a_folder_is_walked_in_order_and_only_what_can_be_read_is_taken(tmp_path: Path) -> None:
    names = ("b.md", "a.TXT", "sub/c.jsonl.gz", "sub/a.pdf", "x.exe", "y", ".git/d.md", "sub/.e.md")
    found = given(make(tmp_path / "notes", *names))
    assert labels(found) == ["notes/a.TXT", "notes/b.md", "notes/sub/a.pdf", "notes/sub/c.jsonl.gz"]
    assert (found.missing, found.notes) == ((), ())
    assert not any(file.named for file in found.files)


def test_a_named_file_has_its_name_its_hash_and_its_licence(tmp_path: Path) -> None:
    path = make(tmp_path, "a/cells.md") / "a/cells.md"
    (file,) = given(path, licence="CC0").files
    assert (file.label, file.path, file.licence, file.named) == ("cells.md", path, "CC0", True)
    assert file.sha256 == hashlib.sha256(b"a/cells.md").hexdigest()


def test_no_label_is_absolute_even_for_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make(tmp_path / "notes", "cells.md"))
    assert labels(given(".")) == labels(given(tmp_path / "notes")) == ["notes/cells.md"]


def test_files_of_one_name_keep_apart_and_the_first_keeps_its_label(tmp_path: Path) -> None:
    make(tmp_path, "a/x.md", "b/x.md", "c/b/x.md")
    found = given(tmp_path / "a/x.md", tmp_path / "b/x.md", tmp_path / "c/b/x.md")
    assert labels(found) == ["x.md", "b/x.md", "c/b/x.md"]
    assert len({file.path for file in found.files}) == 3


def test_a_file_that_is_met_twice_is_taken_once(tmp_path: Path) -> None:
    make(tmp_path / "notes", "x.md", "y.md")
    found = given(tmp_path / "notes/y.md", tmp_path / "notes", tmp_path / "notes")
    assert labels(found) == ["y.md", "notes/x.md"]


def test_links_are_followed_only_within_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "notes/deep/x.md", "secret/key.md")
    link(tmp_path / "notes/again.md", tmp_path / "notes/deep/x.md")
    link(tmp_path / "notes/again", tmp_path / "notes/deep")
    link(tmp_path / "notes/out.md", tmp_path / "secret/key.md")
    link(tmp_path / "notes/way", tmp_path / "secret")
    link(tmp_path / "notes/loop", tmp_path / "notes/loop")
    link(tmp_path / "notes/up", tmp_path / "notes")
    found = given(tmp_path / "notes")
    assert {file.path.resolve() for file in found.files if file.path is not None} == {
        (tmp_path / "notes/deep/x.md").resolve()
    }
    left_out = {note.split("`")[1].rsplit(os.sep, 1)[1] for note in found.notes}
    assert {"out.md", "way"} <= left_out <= {"out.md", "way", "loop"}
    assert all("a link that leads out of the folder" in note for note in found.notes)


@pytest.mark.parametrize("content", [(), ("x.exe",), (".hidden.md",)])
def test_a_folder_with_nothing_to_read_is_an_error(
    tmp_path: Path, content: tuple[str, ...]
) -> None:
    (tmp_path / "notes").mkdir()
    make(tmp_path / "notes", *content)
    with pytest.raises(Misuse, match="holds nothing that can be read") as caught:
        given(tmp_path / "notes")
    assert "`.md`" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("x.exe", "has no ending that can be read"),
        ("absent.md", "no `"),
        ("hf:cells", "names no data set"),
        ("s3:cells.md", "`s3:` is no kind of source"),
        ("mirror:cells.md", "no `mirror:cells.md`"),
    ],
)
def test_what_a_user_names_wrongly_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, said: str
) -> None:
    monkeypatch.chdir(make(tmp_path, "x.exe"))
    with pytest.raises(Misuse) as caught:
        given(where)
    assert said in caught.value.what


def test_a_file_over_the_limit_is_left_out_of_a_folder_and_an_error_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rag_files, "LARGEST", 10)
    folder = make(tmp_path / "notes", "short.md", "a_long_name.md")
    found = given(folder)
    assert labels(found) == ["notes/short.md"]
    assert "a_long_name.md" in found.notes[0]
    with pytest.raises(Misuse, match="holds more than"):
        given(folder / "a_long_name.md")


def test_declared_sources_stand_in_the_folder_the_mirror_and_the_hub(tmp_path: Path) -> None:
    folder = make(tmp_path / "domain", "notes/a.md", "documents/own.md")
    data = make(tmp_path / "data", "textbooks/bees.jsonl.gz", "security/cwe/699.csv", "one.md")
    sources = [
        Source("notes/a.md", "A", "Notes", "https://notes.example"),
        Source("mirror:textbooks/bees.jsonl.gz", "B"),
        Source("mirror:security/cwe", "C"),
        Source("mirror:one.md", "D"),
        Source("hf:hives/honey:train", "E"),
    ]
    found = find_files(sources, folder=folder, data=data)
    assert [(file.label, file.licence) for file in found.files] == [
        ("notes/a.md", "A"),
        ("bees.jsonl.gz", "B"),
        ("cwe/699.csv", "C"),
        ("one.md", "D"),
        ("hf:hives/honey:train", "E"),
    ]
    assert (found.files[0].title, found.files[0].url) == ("Notes", "https://notes.example")
    assert (found.files[-1].path, found.files[-1].sha256) == (None, "")
    assert not any(file.named for file in found.files)


@pytest.mark.parametrize("with_mirror", [False, True])
def test_what_the_mirror_lacks_is_said(tmp_path: Path, with_mirror: bool) -> None:
    source = Source("mirror:textbooks/bees.jsonl.gz", "CC0", url="https://bees.example")
    data = tmp_path if with_mirror else None
    found = find_files([source], folder=tmp_path, data=data)
    assert found.files == ()
    (sentence,) = found.missing
    assert "`mirror:textbooks/bees.jsonl.gz` is left out: set BENCH_DATA" in sentence
    assert "https://bees.example" in sentence


def test_a_declared_source_may_not_lead_out_by_a_link(tmp_path: Path) -> None:
    folder = make(tmp_path, "domain/domain.yaml", "secret/key.md") / "domain"
    link(folder / "documents", tmp_path / "secret")
    with pytest.raises(Misuse, match="leads out"):
        find_files([Source("documents", "")], folder=folder, data=None)


@pytest.mark.parametrize("name", ["biology", "history", "security", "mathematics", "philosophy"])
def test_a_built_in_domains_own_documents_come_first(name: str) -> None:
    domain = load_domains()[name]
    sources = domain_sources(domain)
    assert (sources[0].where, sources[0].licence) == ("documents", "Apache-2.0")
    found = find_files(sources, folder=domain.folder, data=None)
    assert found.files[0].label.startswith("documents/")
    assert len(found.missing) == sum(s.where.startswith("mirror:") for s in domain.sources)


def test_a_domain_without_documents_has_what_it_declares() -> None:
    domain = load_domains()["law"]
    assert domain_sources(domain) == domain.sources == ()
