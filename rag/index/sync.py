"""Changes of a knowledge base's sources since its published generation, by their hashes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from domainlift.errors import Malformed, Misuse
from domainlift.files import write_json
from domainlift.workspace import Workspace
from knowledge_bases.domains import Domain
from rag.corpus.collect import key
from rag.corpus.readers.base import SourceFile
from rag.corpus.source_files import Found, domain_sources, find_files
from rag.index.manifest import IndexManifest

#: Above this share of lost files a folder looks half emptied, and nothing is deleted on a `--yes`.
MOST_LOST = 0.5
_RECORD = "sources.json"


@dataclass(frozen=True)
class BuildRecord:
    """Where the last build looked for files: `declared` sources, and those `given` besides.

    `refused` has the hash of each file that could not be read, so that it is not taken for a new
    one again and again.
    """

    declared: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    licence: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceChanges:
    """Labels of files by what became of them; `gone` are those whose content is nowhere now.

    A file under another name is `moved`, and its new name is in `added`.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    moved: tuple[str, ...]
    before: int

    @property
    def any(self) -> bool:
        """Whether a sync has something to do."""
        return bool(self.added or self.changed or self.gone or self.moved)

    @property
    def halved(self) -> bool:
        """Whether so much is gone that it looks like an accident."""
        return len(self.gone) > MOST_LOST * self.before


def source_changes(
    manifest: IndexManifest, files: Sequence[SourceFile], refused: Mapping[str, str] = {}
) -> SourceChanges:
    """Compare files with those that a generation was made of; neither is read.

    A data set of the hub, whose content has no hash here, counts as unchanged.
    """
    before = {source.label: source for source in manifest.sources}
    now = {file.label: file for file in files if refused.get(file.label) != file.sha256}
    hashes = {file.sha256 for file in now.values()}
    missing = [label for label in before if label not in now]
    gone = [label for label in missing if before[label].sha256 not in hashes]
    return SourceChanges(
        added=tuple(label for label in now if label not in before),
        changed=tuple(
            label
            for label, file in now.items()
            if label in before and file.sha256 and key(file) != key(before[label])
        ),
        gone=tuple(gone),
        moved=tuple(label for label in missing if label not in set(gone)),
        before=len(before),
    )


def keep_gone(
    manifest: IndexManifest, files: Sequence[SourceFile], changes: SourceChanges
) -> list[SourceFile]:
    """The files, and the lost ones as the published generation has them."""
    gone = set(changes.gone)
    kept = [each for each in manifest.sources if each.label in gone]
    return [*files, *(SourceFile(k.label, None, k.sha256, k.licence, k.title) for k in kept)]


def current_sources(
    name: str, domains: Mapping[str, Domain], workspace: Path, data: Path | None
) -> tuple[Found, BuildRecord]:
    """The files that are there now of what the last build took.

    Misuse where the domain declares no source and was given none, or a folder is gone.
    """
    domain = domains.get(name)
    declared = domain_sources(domain) if domain is not None else ()
    record = read_record(workspace, name)
    if record is None:
        record = BuildRecord(tuple(source.where for source in declared))
    sources = [source for source in declared if source.where in record.declared]
    if not sources and not record.given:
        where = f"bench kb build {name} --source PATH"
        raise Misuse(f"where the documents of `{name}` are is not known", f"say it once: `{where}`")
    folder = domain.folder if domain is not None else Path()
    given, licence = record.given, record.licence
    return find_files(sources, folder=folder, data=data, given=given, licence=licence), record


def read_record(workspace: Path, name: str) -> BuildRecord | None:
    """Where the last build looked; None where it was not written down."""
    path = Workspace(workspace).knowledge_bases / name / _RECORD
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        places = tuple(stored["declared"]), tuple(stored["given"])
        return BuildRecord(*places, stored["licence"], stored["refused"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = f"write it anew: `bench kb build {name} --source PATH`"
        raise Malformed(path, "not the record of a build", hint=hint) from error


def write_record(workspace: Path, name: str, found: Found, built: IndexManifest) -> None:
    """Write down where a build looked; paths are made absolute."""
    known = {source.label for source in built.sources}
    refused = {file.label: file.sha256 for file in found.files if file.label not in known}
    given = tuple(_absolute(each) for each in found.given)
    record = BuildRecord(found.declared, given, found.licence, refused)
    write_json(Workspace(workspace).knowledge_bases / name / _RECORD, asdict(record))


def _absolute(where: str) -> str:
    path = Path(where).expanduser()
    return str(path.resolve()) if path.exists() else where
