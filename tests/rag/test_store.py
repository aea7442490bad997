from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from rag.index.index import open_index
from rag.index.store import KnowledgeBaseStore
from tests.helpers import fake_shelf

if TYPE_CHECKING:
    from tests.helpers.fake_shelf import Shelf


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shelf with a knowledge base, to be copied: that is faster than building it."""
    folder = tmp_path_factory.mktemp("template")
    shelf = fake_shelf.Shelf(folder)
    shelf.put("a.txt", "one: cells hold a nucleus", "two: kings held a castle")
    shelf.build()
    return folder


@pytest.fixture
def built(template: Path, tmp_path: Path) -> Shelf:
    shutil.copytree(template, tmp_path / "shelf")
    shelf: Shelf = fake_shelf.Shelf(tmp_path / "shelf")
    return shelf


def change(shelf: Shelf, text: str) -> str:
    shelf.put("a.txt", f"one: {text}", "two: kings held a castle")
    return shelf.build().generation


def generations(shelf: Shelf) -> list[str]:
    folder = shelf.root / "biology"
    return sorted(path.name for path in folder.glob("g*"))


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    store = KnowledgeBaseStore(tmp_path / "workspace" / "knowledge_bases")
    assert store.names() == []
    with pytest.raises(NoSuch, match="no knowledge base `biology`"):
        store.open("biology")
    assert not (tmp_path / "workspace").exists()


def test_the_nearest_name_is_given(built: Shelf) -> None:
    built.build("history")
    store = KnowledgeBaseStore(built.root)
    assert store.names() == ["biology", "history"]
    for ask in (store.open, store.manifest, store.remove):
        with pytest.raises(NoSuch) as caught:
            ask("biologie")
        assert "did you mean `biology`?" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".locks", "A b", "ü", "a:b"])
def test_a_name_that_is_none_is_refused(name: str, built: Shelf) -> None:
    with pytest.raises(Misuse):
        KnowledgeBaseStore(built.root).open(name)
    with pytest.raises(Misuse):
        built.build(name)


@pytest.mark.parametrize("name", ["a", "x_", "-"])
def test_every_name_of_a_domain_can_be_built(name: str, built: Shelf) -> None:
    built.build(name)
    with open_index(built.root, name) as index:
        assert len(index.chunks) == 2


def test_a_reader_keeps_its_generation_while_later_ones_are_published(built: Shelf) -> None:
    first = KnowledgeBaseStore(built.root).manifest("biology").generation
    with open_index(built.root, "biology") as index:
        second = change(built, "cells hold mitochondria")
        third = change(built, "cells hold ribosomes")
        assert generations(built) == [first, third]
        assert index.manifest.generation == first
        assert index.chunks[0].text == "cells hold a nucleus"
        assert [row for row, _ in index.bm25(["nucleus"], 5)[0]] == [0]
        assert index.dense(built.bag.encode_queries(["nucleus"]), 1)[0][0][0] == 0
        with open_index(built.root, "biology") as now:
            assert now.manifest.generation == third
            assert now.bm25(["nucleus"], 5) == [[]]
    assert second not in generations(built)
    built.build()
    assert generations(built) == [third]
    assert list((built.root / "biology" / "leases").iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from rag.index.store import KnowledgeBaseStore
store = KnowledgeBaseStore(Path(sys.argv[1]))
with getattr(store, sys.argv[2])("biology"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(built: Shelf) -> Callable[[str], subprocess.Popen[bytes]]:
    def begin(how: str) -> subprocess.Popen[bytes]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(built.root), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        return holder

    return begin


def test_a_second_writer_is_told_who_the_first_is(
    built: Shelf, hold: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    with hold("writing") as holder:
        said = rf"knowledge base `biology` is being written by process {holder.pid} since \d+ s"
        for attempt in (built.build, lambda: KnowledgeBaseStore(built.root).remove("biology")):
            with pytest.raises(BenchError, match=said):
                attempt()
        built.build("history")  # another domain is nobody's business
        with open_index(built.root, "biology") as index:
            assert len(index.chunks) == 2
        holder.kill()
    built.build()


def test_the_lease_of_another_process_holds_until_it_dies(
    built: Shelf, hold: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    first = KnowledgeBaseStore(built.root).manifest("biology").generation
    with hold("open") as holder:
        second = change(built, "cells hold mitochondria")
        assert generations(built) == [first, second]
        with pytest.raises(BenchError, match="is being read"):
            KnowledgeBaseStore(built.root).remove("biology")
        assert KnowledgeBaseStore(built.root).names() == ["biology"]
        holder.kill()
    built.build()
    assert generations(built) == [second]


def test_what_is_removed_is_gone_and_can_be_built_again(built: Shelf) -> None:
    KnowledgeBaseStore(built.root).remove("biology")
    assert not (built.root / "biology").exists()
    assert KnowledgeBaseStore(built.root).names() == []
    built.build()
    assert KnowledgeBaseStore(built.root).names() == ["biology"]


def test_what_others_put_beside_the_files_stays(built: Shelf) -> None:
    generation = KnowledgeBaseStore(built.root).manifest("biology").generation
    gate = built.root / "biology" / generation / "gates" / "tiny.json"
    gate.parent.mkdir()
    gate.write_text("{}", encoding="utf-8")
    built.build()
    with open_index(built.root, "biology") as index:
        assert index.manifest.generation == generation
    assert gate.is_file()


def test_an_error_leaves_no_build_behind(built: Shelf) -> None:
    before = generations(built)

    def burst(stage: str, done: int, total: int) -> None:
        if stage == "vectors":
            raise ZeroDivisionError

    built.put("b.txt", "three: a third one")
    with pytest.raises(ZeroDivisionError):
        built.build(progress=burst)
    assert generations(built) == before
    assert list((built.root / "biology").glob(".build-*")) == []


# --- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def scribble(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))


def swap_letters(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'{"', b'["'))


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def age(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "schema": 0}), "utf-8")


def other_marks(path: Path) -> None:
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**data, "digest": "sha256:other"}), "utf-8")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (delete, "current.json"),
    (cut, "current.json"),
    (scribble, "current.json"),
    (delete, "G"),
    (delete, "G/manifest.json"),
    (cut, "G/manifest.json"),
    (age, "G/manifest.json"),
    (other_marks, "G/manifest.json"),
    (delete, "G/chroma"),
    (delete, "G/chroma/chroma.sqlite3"),
    (scribble, "G/chroma/chroma.sqlite3"),
    (scribble, "G/chroma/*/link_lists.bin"),
    (scribble, "G/chroma/*/data_level0.bin"),
    (delete, "G/chroma/*/header.bin"),
    (delete, "G/chroma.json"),
    (scribble, "G/chroma.json"),
    (delete, "G/embeddings.npy"),
    (cut, "G/embeddings.npy"),
    (scribble, "G/embeddings.npy"),
    (scribble, "G/ids.npy"),
    (delete, "G/chunks.jsonl"),
    (cut, "G/chunks.jsonl"),
    (scribble, "G/chunks.jsonl"),
    (swap_letters, "G/chunks.jsonl"),
    (delete, "G/bm25"),
    (cut, "G/bm25/vocab.index.json"),
    (scribble, "G/bm25/params.index.json"),
    (scribble, "G/bm25/indptr.csc.index.npy"),
]


def use(shelf: Shelf) -> None:
    with open_index(shelf.root, "biology") as index:
        index.dense(shelf.bag.encode_queries(["nucleus"]), 2)
        index.bm25(["nucleus"], 2)
        list(index.chunks)


@pytest.mark.parametrize(("harm", "where"), DAMAGE, ids=lambda v: getattr(v, "__name__", v))
def test_a_damaged_store_says_how_to_make_it_anew(
    harm: Callable[[Path], None], where: str, built: Shelf
) -> None:
    generation = KnowledgeBaseStore(built.root).manifest("biology").generation
    [path] = (built.root / "biology").glob(where.replace("G", generation))
    harm(path)
    with pytest.raises((Malformed, Misuse)) as caught:
        use(built)
    assert caught.value.hint == "build it anew: `bench kb build biology --rebuild`"
    assert "\n" not in caught.value.what
    built.put("b.txt", "three: a third one")
    if where not in ("current.json", "G/chroma/chroma.sqlite3"):  # of these nothing is taken over
        with pytest.raises(Misuse) as caught:
            built.build()
        assert "--rebuild" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("harm", "where"),
    [(scribble, "current.json"), (delete, "G/chroma"), (swap_letters, "G/chunks.jsonl")],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_damaged_store_is_made_anew_by_that_command(
    harm: Callable[[Path], None], where: str, built: Shelf
) -> None:
    generation = KnowledgeBaseStore(built.root).manifest("biology").generation
    harm(built.root / "biology" / where.replace("G", generation))
    built.build(rebuild=True)
    use(built)
    assert len(generations(built)) == 1
