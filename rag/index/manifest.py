"""Manifest of a generation of a knowledge base, and the check of its files against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zlib import crc32

from domainlift.errors import Malformed
from domainlift.text.terms import ANALYSER

SCHEMA = 1


@dataclass(frozen=True)
class SourceEntry:
    """A file that went in, with how many documents and chunks came out of it."""

    label: str
    sha256: str
    licence: str
    title: str
    documents: int
    chunks: int


@dataclass(frozen=True)
class IndexManifest:
    """Manifest of a generation. The chunks are in the order of `sources`.

    `size` is the wished and `limit` the greatest length of a chunk in the embedding model's
    tokens. `chroma` is the URL of the server that holds the vectors, None for the embedded store.
    `churn` counts the rows that changed since the Chroma index was made afresh. `files` are those
    of the generation, each with its length in bytes and its CRC-32, None where it may change.
    `analyser` is the version of `domainlift.text.terms` that the BM25 index was made by.
    `weight` is that of BM25 in the fusion, None where the default serves as well.
    """

    domain: str
    generation: str
    created: str
    sources: tuple[SourceEntry, ...]
    documents: int
    chunks: int
    embedder: str
    digest: str
    dimensions: int
    size: int
    limit: int
    versions: Mapping[str, str]
    chroma: str | None
    churn: int
    files: Mapping[str, str | None]
    schema: int = SCHEMA
    analyser: int = 1  # of manifests that do not name it
    weight: float | None = None

    @property
    def stale(self) -> bool:
        """Whether the terms of a text are others today than those of the BM25 index."""
        return self.analyser != ANALYSER

    @property
    def marks(self) -> dict[str, str | int]:
        """Properties that the vectors depend on, stored with the Chroma collection and checked."""
        return {
            "embedder": self.digest,
            "dimensions": self.dimensions,
            "size": self.size,
            "limit": self.limit,
        }


def read_manifest(folder: Path, domain: str) -> IndexManifest:
    """Read a generation's manifest and see that all its files are there in their length."""
    path = folder / "manifest.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise damaged_index(
                path, domain, f"written by another version (schema {data['schema']})"
            )
        manifest = _manifest(data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged_index(path, domain, "not the manifest of a knowledge base") from error
    for name, wanted in manifest.files.items():
        _check_length(folder / name, wanted, domain)
    return manifest


def list_files(folder: Path) -> dict[str, str | None]:
    """The files of a generation with their lengths and sums.

    SQLite's may change, because Chroma notes in it that it was opened.
    """
    return {
        path.relative_to(folder).as_posix(): None
        if ".sqlite3" in path.name
        else _length_and_sum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("-journal")
    }


def check_sums(folder: Path, manifest: IndexManifest) -> None:
    """See that all files are as they were written: hnswlib crashes on a damaged index."""
    for name, wanted in manifest.files.items():
        if wanted is not None and _length_and_sum(folder / name) != wanted:
            raise damaged_index(folder / name, manifest.domain, "not as it was written")


def damaged_index(path: Path, domain: str, what: str) -> Malformed:
    """The error of a knowledge base that cannot be read, with the command that makes it anew."""
    return Malformed(path, what, hint=f"build it anew: `bench kb build {domain} --rebuild`")


def _manifest(data: dict[str, Any]) -> IndexManifest:
    names = {field.name for field in fields(IndexManifest)}
    sources = tuple(SourceEntry(**source) for source in data["sources"])
    values = {key: value for key, value in data.items() if key in names}
    return IndexManifest(**{**values, "sources": sources})


def _check_length(path: Path, wanted: str | None, domain: str) -> None:
    if not path.is_file():
        raise damaged_index(path, domain, "missing")
    length = path.stat().st_size
    if wanted is not None and str(length) != wanted.partition(" ")[0]:
        raise damaged_index(
            path, domain, f"{length} bytes, but {wanted.partition(' ')[0]} were written"
        )


def _length_and_sum(path: Path) -> str:
    length, total = 0, 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            length, total = length + len(part), crc32(part, total)
    return f"{length} {total:08x}"
