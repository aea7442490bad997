"""Store of vectors in Chroma: embedded in the folder of a generation, or on a server.

An embedded index is persisted with every batch (`sync_threshold` 1). With Chroma's default, what
came last would stay in its log, and every process that opens the index would write the index
files anew, all at once. So readers change nothing but the note in SQLite that they were there.

Chroma holds ids and vectors only; the texts stand in the generation's own files. The collection
carries our own marks (embedding model, dimensions, chunking), because Chroma compares no more of
an embedding model than the name of its class.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from domainlift.errors import BenchError, Misuse
from domainlift.files import disk_errors, write_json
from domainlift.optional import need
from rag.base import Notify, Vectors
from rag.index.manifest import damaged_index

PLACE = "chroma.json"
FOLDER = "chroma"
_DATABASE = "chroma.sqlite3"
#: Neighbours fetched by one query to Chroma.
_FETCH = 100_000
#: hnswlib does not say why it could not write; with fewer bytes left than these it is clear.
_SPARE = 1 << 20
_FULL = re.compile(r"disk is full|no space left|quota exceeded", re.IGNORECASE)

Marks = Mapping[str, str | int]


@dataclass(frozen=True)
class VectorLocation:
    """Location of the vectors of one generation; `url` is None for the embedded store."""

    folder: Path
    domain: str
    collection: str
    url: str | None = None


def new_location(folder: Path, domain: str, generation: str, url: str | None) -> VectorLocation:
    """Choose the place of a new generation's vectors.

    On a server the name ends at random: several workspaces may share it, and nobody may delete
    what another one uses.
    """
    if url is None:
        # Chroma wants a letter or a digit at the end.
        return VectorLocation(
            folder, domain, f"kb-{domain}" + ("" if domain[-1].isalnum() else ".0")
        )
    _server(url)
    return VectorLocation(folder, domain, f"kb-{domain}-{generation}-{token_hex(4)}", url)


def location_of(folder: Path, domain: str) -> VectorLocation:
    """Read the location of the vectors of a written generation."""
    path = folder / PLACE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return VectorLocation(folder, domain, data["collection"], data["url"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise damaged_index(path, domain, "does not say where the vectors are") from error


def create(
    place: VectorLocation, marks: Marks, ids: Sequence[str], vectors: Vectors, say: Notify
) -> None:
    """Make a collection that holds these vectors."""
    space: dict[str, Any] = {"space": "cosine"}
    if place.url is None:
        space |= {"sync_threshold": 1, "batch_size": 1}
    # Written first: should this process be killed, the next one knows what to delete.
    write_json(place.folder / PLACE, {"collection": place.collection, "url": place.url})
    with _client(place) as client:
        with _errors(place):
            collection = client.create_collection(
                place.collection,
                metadata=dict(marks),
                configuration={"hnsw": space},
                embedding_function=None,
            )
            size = client.get_max_batch_size()
        _add(place, collection, ids, vectors, size, say)


def update(
    place: VectorLocation, source: Path, removed: Sequence[str], ids: Sequence[str], vectors:
    Vectors, say: Notify,
) -> None:  # fmt: skip
    """Take over the embedded index of the generation in `source`, and change what differs."""
    with _errors(place):
        _copy(source / FOLDER, place.folder / FOLDER)
    write_json(place.folder / PLACE, {"collection": place.collection, "url": None})
    with _client(place) as client:
        with _errors(place):
            collection = client.get_collection(place.collection, embedding_function=None)
            size = client.get_max_batch_size()
            for start in range(0, len(removed), size):
                collection.delete(ids=list(removed[start : start + size]))
        _add(place, collection, ids, vectors, size, say)


class ChromaIndex:
    """An opened collection."""

    def __init__(self, place: VectorLocation, marks: Marks, rows: int) -> None:
        self._place = place
        if place.url is None and not (place.folder / FOLDER / _DATABASE).is_file():
            # Chroma would make a new, empty one.
            raise damaged_index(place.folder / FOLDER, place.domain, "the Chroma index is missing")
        self._client = _connect(place)
        try:
            self._collection = _open(self._client, place, marks, rows)
        except BaseException:
            _close(self._client)
            raise

    def query(self, vectors: Vectors, k: int) -> list[list[tuple[str, float]]]:
        """The ids of the k nearest per vector, with the cosine of the angle, best first."""
        step = max(1, _FETCH // k)
        neighbours: list[list[tuple[str, float]]] = []
        for start in range(0, len(vectors), step):
            with _errors(self._place):
                part = self._collection.query(
                    query_embeddings=vectors[start : start + step],
                    n_results=k,
                    include=["distances"],
                )
            pairs = zip(part["ids"], part["distances"], strict=True)
            neighbours += [_cosines(ids, distances) for ids, distances in pairs]
        return neighbours

    def close(self) -> None:
        """Let go of the files, or of the connection."""
        _close(self._client)


def forget(folder: Path) -> None:
    """Delete the server's collection of a generation that goes; a silent server keeps it."""
    with suppress(BenchError):
        place = location_of(folder, folder.parent.name)
        if place.url is not None:
            with _client(place) as client, _errors(place):
                client.delete_collection(place.collection)


# --- collections


def _add(
    place: VectorLocation,
    collection: Any,
    ids: Sequence[str],
    vectors: Vectors,
    size: int,
    say: Notify,
) -> None:
    for start in range(0, len(ids), size):
        end = min(start + size, len(ids))
        with _errors(place):
            collection.add(ids=list(ids[start:end]), embeddings=vectors[start:end])
        say(end, len(ids))


def _open(client: Any, place: VectorLocation, marks: Marks, rows: int) -> Any:
    path = place.folder / FOLDER
    with _errors(place):
        names = [collection.name for collection in client.list_collections()]
        if place.collection not in names:
            raise damaged_index(
                path, place.domain, f"no collection `{place.collection}`{_at(place)}"
            )
        collection = client.get_collection(place.collection, embedding_function=None)
        count = collection.count()
    metadata = collection.metadata or {}
    wrong = [f"{key} {metadata.get(key)}" for key in marks if metadata.get(key) != marks[key]]
    if wrong:
        what = f"the Chroma collection was made otherwise ({', '.join(wrong)})"
        raise damaged_index(path, place.domain, what)
    if count != rows:
        what = f"the Chroma collection holds {count} vectors instead of {rows}"
        raise damaged_index(path, place.domain, what)
    return collection


def _cosines(ids: Sequence[str], distances: Sequence[float]) -> list[tuple[str, float]]:
    return [(id_, 1.0 - float(far)) for id_, far in zip(ids, distances, strict=True)]


def _copy(source: Path, target: Path) -> None:
    """Copy an embedded index that others may be opening in this moment.

    They write to SQLite only, and SQLite itself copies between their writes.
    """
    with disk_errors(target):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(f"{_DATABASE}*"))
        with (
            closing(sqlite3.connect(source / _DATABASE)) as old,
            closing(sqlite3.connect(target / _DATABASE)) as new,
        ):
            old.backup(new)


# --- clients


@contextmanager
def _client(place: VectorLocation) -> Iterator[Any]:
    client = _connect(place)
    try:
        yield client
    finally:
        _close(client)


def _close(client: Any) -> None:
    client.close()
    # Chroma does not close the sessions of its HTTP clients, of which there are two.
    for owner in (client, getattr(client, "_admin_client", None)):
        session = getattr(getattr(owner, "_server", None), "_session", None)
        if session is not None:
            session.close()


def _connect(place: VectorLocation) -> Any:
    chromadb = need("chromadb")
    settings = chromadb.Settings(anonymized_telemetry=False)
    with _errors(place):
        if place.url is None:
            return chromadb.PersistentClient(str(place.folder / FOLDER), settings=settings)
        host, port, ssl = _server(place.url)
        return chromadb.HttpClient(host, port, ssl=ssl, settings=settings)


def _server(url: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise Misuse(f"`{url}` is not the URL of a Chroma server", "write it as http://host:port")
    ssl = parts.scheme == "https"
    return parts.hostname, port if port is not None else (443 if ssl else 8000), ssl


@contextmanager
def _errors(place: VectorLocation) -> Iterator[None]:
    """Turn what Chroma raises, which may be anything, into errors that say what to do."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        raise _translate(place, error) from error


def _translate(place: VectorLocation, error: Exception) -> BenchError:
    message = " ".join(str(error).split())
    if place.url is not None:
        return _server_error(place.url, error, message[:200])
    # A build's own folder is gone when this is read.
    building = place.folder.name.startswith(".")
    shown = place.folder.parent if building else place.folder / FOLDER
    if _FULL.search(message) or (building and shutil.disk_usage(place.folder).free < _SPARE):
        try:
            with disk_errors(shown):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        except BenchError as full:
            return full
    return damaged_index(shown, place.domain, f"Chroma fails: {message[:200]}")


def _server_error(url: str, error: Exception, message: str) -> BenchError:
    from httpx import TransportError

    if isinstance(error, TransportError) or "Could not connect" in message:
        return BenchError(
            f"the Chroma server `{url}` does not answer",
            "start it (`chroma run`) and repeat the command; what was published is untouched",
        )
    return BenchError(f"the Chroma server `{url}` fails: {message}", "look into its log")


def _at(place: VectorLocation) -> str:
    return "" if place.url is None else f" on `{place.url}`"
