from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from domainlift.errors import BenchError, NoSuch
from rag.index.index import open_index
from rag.index.store import KnowledgeBaseStore
from tests.helpers import fake_shelf
from tests.helpers.tolerance import cosine_tolerance

if TYPE_CHECKING:
    from rag.base import Chunk
    from tests.helpers.fake_shelf import Shelf

KILLS = 20

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")


class Builders:
    """Processes that build, and are killed after a while."""

    def __init__(self, folder: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, fake_shelf.__file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def build(self, kill_after: float | None = None) -> bool:
        """Whether the build came to its end."""
        assert self._server.stdin is not None
        print("build", file=self._server.stdin, flush=True)
        child = int(self._line())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        print("wait", file=self._server.stdin, flush=True)
        return self._line() == "0"

    def close(self) -> None:
        self._server.communicate()

    def _line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()


@pytest.fixture
def builders(shelf: Shelf) -> Iterator[Builders]:
    builders = Builders(shelf.papers.parent)
    yield builders
    builders.close()


def fill(shelf: Shelf, turn: int) -> None:
    """30 documents; each turn changes three of them."""
    lines = [f"paper {n}: row{n} tells of w{n % 7} in its first version" for n in range(30)]
    for n in range(turn % 10, 30, 10):
        lines[n] = f"paper {n}: row{n} tells of turn t{turn}"
    shelf.put("papers.txt", *lines)
    shelf.put("other.txt", "constant: a file that never changes")


def expected(shelf: Shelf) -> list[Chunk]:
    """What the files give, computed without a store."""
    return [
        chunk
        for page in shelf.files()
        for paper in fake_shelf.read(page)
        for chunk in fake_shelf.split(paper, shelf.bag.count, 8, 256)
    ]


def check(shelf: Shelf, *states: list[Chunk]) -> None:
    """The published generation is whole, is one of these states, and answers rightly."""
    with open_index(shelf.root, "biology") as index:
        chunks = list(index.chunks)
        assert chunks in states
        vectors = shelf.bag.encode_queries([chunk.indexed for chunk in chunks])
        assert np.array_equal(index.vectors, vectors)
        near = index.dense(vectors, 3)
        assert [found[0][0] for found in near] == list(range(len(chunks)))
        assert near[4][0][1] == pytest.approx(1, abs=cosine_tolerance(shelf.bag.dimensions))
        words = index.bm25([chunk.text for chunk in chunks], 1)
        assert [found[0][0] for found in words] == list(range(len(chunks)))


def no_leftovers(shelf: Shelf) -> None:
    folder = shelf.root / "biology"
    name = KnowledgeBaseStore(shelf.root).manifest("biology").generation
    assert {path.name for path in folder.iterdir()} == {"current.json", "leases", name}
    assert list((folder / "leases").iterdir()) == []
    assert [path.name for path in (shelf.root / ".locks").iterdir()] == ["biology.lock"]


def test_a_kill_at_any_moment_costs_nothing(shelf: Shelf, builders: Builders) -> None:
    fill(shelf, 0)
    assert builders.build()
    fill(shelf, 1)
    start = time.monotonic()
    assert builders.build()
    whole = time.monotonic() - start
    chance = random.Random(7)
    published = 0
    for turn in range(2, KILLS + 2):
        old = expected(shelf)
        if first := turn % 5 == 0:  # also where nothing was published before
            shutil.rmtree(shelf.root)
        fill(shelf, turn)
        new = expected(shelf)
        builders.build(kill_after=whole * (turn - 1 - chance.random()) / KILLS)
        try:
            published += KnowledgeBaseStore(shelf.root).manifest("biology").generation != ""
        except (NoSuch, BenchError):
            assert first
        else:
            check(shelf, new) if first else check(shelf, old, new)
        shelf.build()
        check(shelf, new)
        no_leftovers(shelf)
    assert published >= KILLS * 4 // 5
    fresh = fake_shelf.Shelf(shelf.papers.parent / "fresh")
    fill(fresh, KILLS + 1)
    fresh.build()
    files = [(s.root / "biology").glob("g*/[ce]*.[jn]*[lp]*") for s in (shelf, fresh)]
    one, other = ({path.name: path.read_bytes() for path in found} for found in files)
    assert one == other
    assert set(one) == {"chunks.jsonl", "embeddings.npy"}


def test_readers_answer_during_builds(shelf: Shelf, builders: Builders) -> None:
    states = []
    for turn in range(5):
        fill(shelf, turn)
        states.append(expected(shelf))
    fill(shelf, 0)
    shelf.build()
    over = threading.Event()
    failures: list[BaseException] = []

    def read_on() -> None:
        try:
            while not over.is_set():
                check(shelf, *states)
        except BaseException as error:
            failures.append(error)

    kept = open_index(shelf.root, "biology")
    reader = threading.Thread(target=read_on)
    reader.start()
    for turn in range(1, 5):
        fill(shelf, turn)
        assert builders.build()
    over.set()
    reader.join()
    assert failures == []
    assert list(kept.chunks) == states[0]
    assert kept.dense(np.asarray(kept.vectors[:2]), 1)[1][0][0] == 1
    kept.close()
    check(shelf, states[-1])
    shelf.build()
    no_leftovers(shelf)


def test_two_builds_at_once_are_one_build(shelf: Shelf, builders: Builders) -> None:
    fill(shelf, 0)
    refused = []

    def hinder(stage: str, done: int, total: int) -> None:
        if stage == "words" and not refused:
            refused.append(builders.build())  # another process, in the midst of ours

    shelf.build(progress=hinder)
    assert refused == [False]
    assert KnowledgeBaseStore(shelf.root).names() == ["biology"]
    no_leftovers(shelf)
