"""Cache of vectors by the content that they were made of: a rebuild embeds only what is new."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from domainlift.errors import BenchError
from domainlift.files import disk_errors
from rag.base import Embedder, Notify, Vectors

# Texts that are embedded before their vectors are stored: what `kill -9` can cost.
_GROUP = 1024
# SQLite allows 999 variables in a statement, in the oldest version that Python still meets.
_LOOKUP = 900
_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"


class CachedEmbedder:
    """An embedding model that remembers every vector in the file `path`.

    Several processes may use one file. The longest texts are embedded first.
    """

    def __init__(self, embedder: Embedder, path: Path) -> None:
        self.name = embedder.name
        self.digest = embedder.digest
        self.max_tokens = embedder.max_tokens
        self.count = embedder.count
        self._embedder = embedder
        self._path = path

    def encode(self, texts: Sequence[str], notify: Notify | None = None) -> Vectors:
        """Embed what is searched in, [texts, dimensions]."""
        model = _Model(self.digest, self._embedder.encode)
        return _remembered(texts, model, self._path, notify)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed what is searched for: many models embed a question in another way."""
        model = _Model(f"{self.digest}?", lambda few, _: self._embedder.encode_queries(few))
        return _remembered(texts, model, self._path, None)


@dataclass(frozen=True)
class _Model:
    digest: str
    encode: Callable[[Sequence[str], Notify | None], Vectors]


def _remembered(texts: Sequence[str], model: _Model, path: Path, notify: Notify | None) -> Vectors:
    keys = [_key(model.digest, text) for text in texts]
    with _open(path) as store:
        vectors_by_key = dict(_found(store, keys))
        text_of = {
            key: text for key, text in zip(keys, texts, strict=True) if key not in vectors_by_key
        }
        missing = sorted(text_of, key=lambda key: -len(text_of[key]))
        for start in range(0, len(missing), _GROUP):
            group = missing[start : start + _GROUP]
            progress = _further(notify, start, len(missing))
            vectors = model.encode([text_of[key] for key in group], progress)
            rows = [(k, v.astype("<f4").tobytes()) for k, v in zip(group, vectors, strict=True)]
            with store, disk_errors(path):
                store.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            vectors_by_key.update(rows)
    if not keys:
        return np.empty((0, 0), dtype=np.float32)
    joined = b"".join(vectors_by_key[key] for key in keys)
    return np.frombuffer(joined, dtype="<f4").reshape(len(keys), -1).astype(np.float32)


def _key(digest: str, text: str) -> bytes:
    return hashlib.sha256(f"{digest}\0{text}".encode("utf-8", "replace")).digest()


def _further(notify: Notify | None, start: int, total: int) -> Notify | None:
    """Progress of one group as progress of the whole."""
    if notify is None:
        return None
    return lambda done, _: notify(start + done, total)


def _found(store: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(keys), _LOOKUP):
        part = keys[start : start + _LOOKUP]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"  # noqa: S608 - marks only
        yield from store.execute(query, part)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as store:
            store.execute(_SCHEMA)
            yield store
    except sqlite3.OperationalError as error:
        hint = "make room, or end the process that holds it, and repeat the command"
        raise BenchError(f"the cache of vectors `{path}` cannot be used: {error}", hint) from error
    except sqlite3.DatabaseError as error:
        raise BenchError(
            f"the cache of vectors `{path}` is damaged: {error}",
            "delete the file: it holds nothing that cannot be computed again",
        ) from error
