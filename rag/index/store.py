"""Store of knowledge bases, which a kill at any moment leaves readable.

<root>/<domain>/current.json        names the published generation; replaced in one step
<root>/<domain>/g0001-1a2b3c4d/     a generation; never written again, but for what is put beside
                                    its files later (`gates/`)
<root>/<domain>/.build-5e6f/        a build under way, or what a killed one left
<root>/<domain>/leases/             one locked file per reader
<root>/<domain>/pins/               one empty file per generation that is to stay, named like it
<root>/.locks/<domain>.lock         held by the one writer for as long as it writes

A reader takes a lease first and then looks at the pointer once more. A writer moves the pointer
first and then looks for leases. So whoever comes second sees the other, and a generation is
removed only when nobody reads it and no version pins it. Locks go with their processes, however
those end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from domainlift.files import disk_errors, exclusive_lock, sync, sync_folder, write_json, write_text
from rag.index.chroma_store import forget
from rag.index.manifest import IndexManifest, damaged_index, read_manifest

if TYPE_CHECKING:
    from filelock import BaseFileLock

POINTER, _PINS = "current.json", "pins"
_GENERATION = re.compile(r"g(\d{4,})-[0-9a-f]{8}")
_DOMAIN = re.compile(r"[a-z0-9_-]+")


class Generation:
    """A published generation, which stays on the disk for as long as this is open."""

    def __init__(self, folder: Path, manifest: IndexManifest, lease: BaseFileLock) -> None:
        self.folder = folder
        self.manifest = manifest
        self._lease = lease

    def close(self) -> None:
        """Give the lease back."""
        _give_back(self._lease)

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class KnowledgeBaseStore:
    """All knowledge bases below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The domains that have a published knowledge base, sorted; reading creates no folder."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{POINTER}"))

    def manifest(self, domain: str) -> IndexManifest:
        """The manifest of the published generation."""
        with self.open(domain) as generation:
            return generation.manifest

    def open(self, domain: str, generation: str = "") -> Generation:
        """Open the published generation, or the one that is named; NoSuch where there is none.

        BenchError where the named one is neither published nor pinned.
        """
        folder = self._folder(domain)
        while True:
            name = self._chosen(domain, generation)
            lease = _lease(folder / "leases", name)
            try:
                # Only now is it certain that no writer has missed the lease.
                if lease is not None and self._chosen(domain, generation) == name:
                    return Generation(folder / name, read_manifest(folder / name, domain), lease)
            except BaseException:
                _give_back(lease)
                raise
            _give_back(lease)

    def pin(self, domain: str, generation: str) -> None:
        """Keep a generation, whatever is published after it; BenchError where it is gone."""
        with self.open(domain, generation) as opened:
            write_text(self._folder(domain) / _PINS / opened.folder.name, "")

    def unpin(self, domain: str, generation: str) -> None:
        """Let a generation go with the next build, unless it is the published one."""
        (self._folder(domain) / _PINS / generation).unlink(missing_ok=True)

    def remove(self, domain: str) -> None:
        """Delete a knowledge base, unless it is being written or read, or a part is pinned."""
        if domain not in self.names():
            raise NoSuch("knowledge base", domain, self.names(), "bench kb list")
        with self.writing(domain) as writer:
            if _pinned(writer.folder):
                what = f"knowledge base `{domain}` belongs to a version that may be served"
                raise BenchError(
                    what, "`bench versions list` shows them, `bench versions rm` drops"
                )
            if _leased(writer.folder):
                what = f"knowledge base `{domain}` is being read"
                raise BenchError(what, "end the commands that use it, then repeat this one")
            writer.remove()

    @contextmanager
    def writing(self, domain: str) -> Iterator[GenerationWriter]:
        """Be the only writer of a domain; a second one is told who the first is."""
        folder = self._folder(domain)
        locks = self.root / ".locks"
        what = f"knowledge base `{domain}`"
        with exclusive_lock(locks / f"{domain}.lock", what, "wait for it, then repeat the command"):
            for part in locks.glob(f"{domain}.json.*.part"):
                part.unlink(missing_ok=True)
            writer = GenerationWriter(folder, domain)
            writer.clean()
            try:
                yield writer
            finally:
                writer.clean()

    def _folder(self, domain: str) -> Path:
        if not _DOMAIN.fullmatch(domain):
            what = f"`{domain}` cannot name a domain"
            raise Misuse(what, "use only a-z, 0-9, `_` and `-`")
        return self.root / domain

    def _chosen(self, domain: str, generation: str) -> str:
        """The published generation, or the named one where no build removes it."""
        folder = self._folder(domain)
        published = _pointer(folder, domain)
        if published is None and any(_generations(folder)):
            raise damaged_index(folder, domain, "no generation is published")
        if published is None:
            make = f"bench kb build {domain} --source FOLDER"
            raise NoSuch("knowledge base", domain, self.names(), "bench kb list", make)
        if not generation:
            return published
        if generation not in {published, *_pinned(folder)}:
            raise BenchError(
                f"knowledge base `{domain}` is `{published}`, and `{generation}` is gone",
                "make the plan anew: `bench improve`",
            )
        return generation


class GenerationWriter:
    """The right to write one knowledge base."""

    def __init__(self, folder: Path, domain: str) -> None:
        self.folder = folder
        self.domain = domain

    def current(self) -> tuple[Path, IndexManifest] | None:
        """The published generation, None before the first; Malformed where it is damaged."""
        name = _pointer(self.folder, self.domain)
        if name is None:
            return None
        return self.folder / name, read_manifest(self.folder / name, self.domain)

    def name(self, digest: str) -> str:
        """The name of the next generation, given the hash of its content."""
        names = (_GENERATION.fullmatch(path.name) for path in _generations(self.folder))
        numbers = [int(name[1]) for name in names if name]
        return f"g{max(numbers, default=0) + 1:04d}-{digest[:8]}"

    def fresh(self) -> Path:
        """An empty folder for a build."""
        path = self.folder / f".build-{token_hex(4)}"
        with disk_errors(path):
            path.mkdir(parents=True)
        return path

    def publish(self, build: Path, manifest: IndexManifest) -> None:
        """Make a finished build the published generation; what it replaces goes when unread."""
        write_json(build / "manifest.json", asdict(manifest))
        with disk_errors(build):
            sync(build)
            build.rename(self.folder / manifest.generation)
            sync_folder(self.folder)
            write_json(self.folder / POINTER, {"generation": manifest.generation})
            sync_folder(self.folder)

    def clean(self) -> None:
        """Remove what killed builds left, and generations that are neither published nor read."""
        if not self.folder.is_dir():
            return
        for path in self._garbage():
            forget(path)
            # What cannot go now, because Windows holds it open, say, goes with the next build.
            shutil.rmtree(path, ignore_errors=True)
        for part in self.folder.glob("*.part"):
            part.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the whole knowledge base; the pointer goes first, so that no half is opened."""
        with disk_errors(self.folder):
            (self.folder / POINTER).unlink(missing_ok=True)
            for path in _generations(self.folder):
                forget(path)
            shutil.rmtree(self.folder)

    def _garbage(self) -> list[Path]:
        garbage = list(self.folder.glob(".build-*"))
        with suppress(Malformed):  # which generation was published is not known: keep them all
            published = _pointer(self.folder, self.domain)
            leased = _leased(self.folder)
            if published is not None:
                kept = {published, *leased, *_pinned(self.folder)}
                garbage += [path for path in _generations(self.folder) if path.name not in kept]
        return garbage


# --- the pointer and the generations


def _pointer(folder: Path, domain: str) -> str | None:
    path = folder / POINTER
    try:
        name: Any = json.loads(path.read_text(encoding="utf-8"))["generation"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise damaged_index(path, domain, "not the pointer of a knowledge base") from error
    if not isinstance(name, str) or not _GENERATION.fullmatch(name):
        raise damaged_index(path, domain, "names no generation")
    return name


def _generations(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if _GENERATION.fullmatch(path.name))


def _pinned(folder: Path) -> set[str]:
    return {path.name for path in _generations(folder / _PINS)}


# --- leases


def _lease(folder: Path, generation: str) -> BaseFileLock | None:
    """Lock a file of this reader's own; None where a writer just took it for a dead one's."""
    from filelock import FileLock, Timeout

    path = folder / f"{generation}.{os.getpid()}-{token_hex(4)}.lock"
    # Not bound to a thread: an index may be closed in another one than it was opened in.
    lease = FileLock(path, timeout=0, thread_local=False)
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lease.acquire()
        except Timeout:
            return None
    if path.exists():
        return lease
    lease.release()
    return None


def _give_back(lease: BaseFileLock | None) -> None:
    if lease is not None:
        lease.release()
        with suppress(OSError):
            Path(lease.lock_file).unlink()


def _leased(folder: Path) -> set[str]:
    """The generations that somebody reads; leases of dead processes are removed."""
    from filelock import FileLock, Timeout

    leased = set()
    for path in (folder / "leases").glob("*.lock"):
        lease = FileLock(path, timeout=0)
        try:
            lease.acquire()
        except Timeout:
            leased.add(path.name.partition(".")[0])
        except OSError:  # given back in this moment
            continue
        else:
            _give_back(lease)
    return leased
