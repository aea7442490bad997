from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from domainlift.errors import BenchError, Malformed, Misuse
from rag.index.index import open_index
from rag.index.store import KnowledgeBaseStore
from tests.helpers.tolerance import cosine_tolerance

if TYPE_CHECKING:
    from tests.helpers.fake_shelf import Shelf

FACTS = tuple(
    f"fact {n}: number {n} has the remainder r{n % 7} and the digit d{n % 10}" for n in range(120)
)


@pytest.fixture
def facts(shelf: Shelf) -> Shelf:
    shelf.put("facts.txt", *FACTS)
    shelf.build(size=20)
    return shelf


def generation(shelf: Shelf) -> Path:
    return shelf.root / "biology" / KnowledgeBaseStore(shelf.root).manifest("biology").generation


def content(folder: Path) -> dict[str, bytes]:
    """All bytes, but for SQLite's, in which Chroma notes that it was opened."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "chroma.sqlite3"
    }


def test_dense_gives_true_cosines_best_first(facts: Shelf) -> None:
    queries = facts.bag.encode_queries(["number 17", "remainder r3 digit d4", "zebra"])
    near = {"rel": 0, "abs": cosine_tolerance(facts.bag.dimensions)}
    with open_index(facts.root, "biology") as index:
        true = queries @ np.asarray(index.vectors).T
        for found, cosines in zip(index.dense(queries, 10), true, strict=True):
            assert [cosine for _, cosine in found] == sorted((c for _, c in found), reverse=True)
            best = sorted(cosines, reverse=True)[:10]
            assert [cosine for _, cosine in found] == pytest.approx(best, **near)
            for row, cosine in found:
                assert cosine == pytest.approx(cosines[row], **near)


def test_every_chunk_finds_itself(facts: Shelf) -> None:
    with open_index(facts.root, "biology") as index:
        found = index.dense(np.asarray(index.vectors), 1)
        assert [row for [(row, _)] in found] == list(range(len(index.chunks)))


def test_k_is_clamped(facts: Shelf) -> None:
    queries = facts.bag.encode_queries(["number 17", "digit d4"])
    with open_index(facts.root, "biology") as index:
        for k, wanted in ((0, 0), (1, 1), (120, 120), (9999, 120)):
            dense = index.dense(queries, k)
            assert [len({row for row, _ in found}) for found in dense] == [wanted, wanted]
            assert all(len(found) <= wanted for found in index.bm25(["number", "d4"], k))
        assert index.dense(queries[:0], 5) == index.bm25([], 5) == []


def test_bm25_knows_stems_and_leaves_out_what_shares_no_word(facts: Shelf) -> None:
    with open_index(facts.root, "biology") as index:
        [digits, numbers, nothing, empty] = index.bm25(
            ["the digits d4", "Numbers", "zebra", ""], 50
        )
        assert [index.chunks[row].source.endswith("4") for row, _ in digits[:12]] == [True] * 12
        assert len(numbers) == 50
        assert all(score > 0 for _, score in digits + numbers)
        assert [s for _, s in digits] == sorted((s for _, s in digits), reverse=True)
        assert nothing == empty == []
        # A heading often names what a text is about.
        assert len(index.bm25(["fact"], 500)[0]) == 120


def test_scores_of_bm25_are_those_of_the_library(facts: Shelf) -> None:
    import bm25s

    from domainlift.text.terms import analysed, terms_of

    with open_index(facts.root, "biology") as index:
        texts = [chunk.indexed for chunk in index.chunks]
        model = bm25s.BM25()
        model.index(list(analysed(texts, indexed=True)), show_progress=False)
        query = "which number has remainder r3 and the digit d4"
        scores = model.get_scores(terms_of(query))
        [found] = index.bm25([query], 9)
        assert [score for _, score in found] == pytest.approx(sorted(scores)[:-10:-1], rel=1e-5)
        assert all(score == pytest.approx(scores[row], rel=1e-5) for row, score in found)


def as_of_before(folder: Path) -> None:
    """Make a generation one of before analysers had versions, whose index has other terms."""
    (folder / "bm25" / "vocab.index.json").write_text("{}")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["analyser"], manifest["files"]["bm25/vocab.index.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_index_of_other_terms_is_not_searched_and_mended_by_a_build(shelf: Shelf) -> None:
    shelf.put("a.txt", "one: C++ is a language", "two: a ﬁne day")
    shelf.build()
    folder, embedded = generation(shelf), len(shelf.bag.embedded)
    as_of_before(folder)
    with open_index(shelf.root, "biology") as index:
        assert index.manifest.stale
        assert [[row for row, _ in found] for found in index.bm25(["c++", "fine"], 9)] == [[0], [1]]
    shelf.build()
    with open_index(shelf.root, "biology") as index:
        assert not index.manifest.stale
        assert [[row for row, _ in found] for found in index.bm25(["c++", "fine"], 9)] == [[0], [1]]
        assert len(index.dense(np.asarray(index.vectors), 1)) == 2
    assert len(shelf.bag.embedded) == embedded
    assert generation(shelf) != folder


READ = """
import sys
from pathlib import Path
from rag.index.index import open_index
for turn in range(6):
    with open_index(Path(sys.argv[1]), "biology") as index:
        rows = [found[0][0] for found in index.dense(index.vectors[::10], 5)]
        assert rows == list(range(0, 120, 10)), rows
        assert index.bm25(["d4"], 3)[0][0][0] % 10 == 4
"""


def test_many_readers_at_once_write_nothing(facts: Shelf) -> None:
    # 120 rows are fewer than Chroma's own threshold, below which it keeps no index files.
    folder = generation(facts)
    assert any(name.endswith("data_level0.bin") for name in content(folder))
    before = content(folder)
    with open_index(facts.root, "biology") as index:
        readers = [
            subprocess.Popen([sys.executable, "-c", READ, str(facts.root)]) for _ in range(3)
        ]
        assert [reader.wait(60) for reader in readers] == [0, 0, 0]
        assert len(index.dense(np.asarray(index.vectors[:3]), 5)[0]) == 5
    assert content(folder) == before


def test_an_index_that_was_built_on_is_written_out_too(facts: Shelf) -> None:
    facts.put("more.txt", "extra: one more row with a zebra")
    facts.build(size=20)
    folder = generation(facts)
    before = content(folder)
    for _ in range(2):
        with open_index(facts.root, "biology") as index:
            assert index.manifest.churn == 1
            [found] = index.dense(facts.bag.encode_queries(["zebra row"]), 1)
            assert index.chunks[found[0][0]].source == "more.txt/extra"
    assert content(folder) == before


def test_an_index_can_be_closed_in_another_thread(facts: Shelf) -> None:
    from threading import Thread

    index = open_index(facts.root, "biology")
    thread = Thread(target=index.close)
    thread.start()
    thread.join()
    assert list((facts.root / "biology" / "leases").iterdir()) == []


def test_a_collection_of_another_model_is_not_searched(facts: Shelf) -> None:
    import sqlite3

    database = generation(facts) / "chroma" / "chroma.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        sql = "UPDATE collection_metadata SET str_value = 'sha256:other' WHERE key = 'embedder'"
        assert connection.execute(sql).rowcount == 1
        connection.commit()
    with pytest.raises(Malformed, match="was made otherwise \\(embedder sha256:other\\)"):
        open_index(facts.root, "biology")


def test_a_database_that_is_none_is_not_built_on(facts: Shelf) -> None:
    (generation(facts) / "chroma" / "chroma.sqlite3").write_bytes(b"no database " * 99)
    facts.put("more.txt", "extra: one more")
    with pytest.raises(Malformed, match="Chroma fails: file is not a database") as caught:
        facts.build(size=20)
    assert "--rebuild" in str(caught.value.hint)


@pytest.mark.parametrize(
    "bad", [np.full((1, 32), np.nan, np.float32), np.zeros((0, 32), np.float32)]
)
def test_vectors_that_are_none_are_refused(bad: np.ndarray, shelf: Shelf) -> None:
    shelf.bag.encode_queries = lambda texts: bad  # type: ignore[method-assign]
    shelf.put("a.txt", "one: a text")
    with pytest.raises(BenchError, match="one finite vector per chunk"):
        shelf.build()
    assert KnowledgeBaseStore(shelf.root).names() == []


def test_a_full_disk_is_told_and_loses_nothing(
    facts: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(facts.root / "biology")
    facts.put("more.txt", "extra: one more")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BenchError, match="the disk is full"):
            facts.build(size=20)
    assert content(facts.root / "biology") == before
    assert facts.build(size=20).added == 1


# --- a Chroma server


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    program = shutil.which("chroma", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no chroma program")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "run", "--path", str(tmp_path / "server"), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            if not answers(url, process):
                pytest.skip("the Chroma server does not start here")
            yield url, process
        finally:
            process.kill()


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    for _ in range(100):
        if process.poll() is not None:
            return False
        try:
            with urlopen(f"{url}/api/v2/heartbeat", timeout=1):
                return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False


def collections(url: str) -> list[str]:
    where = "api/v2/tenants/default_tenant/databases/default_database/collections"
    with urlopen(f"{url}/{where}", timeout=5) as reply:
        return [collection["name"] for collection in json.load(reply)]


def test_a_server_holds_one_collection_per_generation(
    facts: Shelf, server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, process = server
    queries = facts.bag.encode_queries(["number 17", "remainder r3 digit d4"])
    with open_index(facts.root, "biology") as index:
        embedded = index.dense(queries, 1)
    facts.bag.uses = 0
    first = facts.build(size=20, chroma=url)
    assert facts.bag.uses == 0  # the vectors were there
    assert facts.build(size=20, chroma=url).generation == first.generation
    assert not (generation(facts) / "chroma").exists()
    reader = open_index(facts.root, "biology")
    assert reader.manifest.chroma == url
    assert [[row for row, _ in found] for found in reader.dense(queries, 1)] == [
        [row for row, _ in found] for found in embedded
    ]
    facts.put("more.txt", "extra: one more row with a zebra")
    second = facts.build(size=20, chroma=url)
    # The older one goes when nobody reads it any more.
    assert [name.split("-")[2] for name in sorted(collections(url))] == ["g0002", "g0003"]
    assert len(reader.dense(queries, 5)[0]) == 5
    reader.close()
    facts.build(size=20, chroma=url)
    [name] = collections(url)
    assert name.startswith(f"kb-biology-{second.generation}-")

    reader = open_index(facts.root, "biology")
    process.kill()
    process.wait()
    for attempt in (
        lambda: reader.dense(queries, 5),
        lambda: open_index(facts.root, "biology"),
        lambda: facts.build(size=20, chroma=url, rebuild=True),
    ):
        with pytest.raises(BenchError, match=f"`{url}` does not answer") as caught:
            attempt()
        assert "chroma run" in str(caught.value.hint)
    reader.close()
    assert facts.build(size=20, chroma=url).generation == second.generation
    KnowledgeBaseStore(facts.root).remove("biology")


def test_a_server_that_is_down_is_one_clear_error(facts: Shelf) -> None:
    before = generation(facts)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(BenchError, match=f"the Chroma server `{url}` does not answer"):
        facts.build(size=20, chroma=url)
    assert generation(facts) == before
    assert sorted(path.name for path in before.parent.iterdir()) == [
        "current.json",
        before.name,
        "leases",
    ]


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http://x:y", "http://x/y"]
)
def test_a_url_that_is_none_is_refused(url: str, facts: Shelf) -> None:
    with pytest.raises(Misuse, match="is not the URL of a Chroma server"):
        facts.build(size=20, chroma=url)
