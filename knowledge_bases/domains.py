"""Loader of the domains: the built-in ones and those of a workspace."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from domainlift.errors import Malformed
from domainlift.files import leads_out, stays_inside
from domainlift.text.normalise import without_accents
from domainlift.workspace import Workspace
from domainlift.yaml_schema import Field, Node, read_yaml
from knowledge_bases.sources import Source, parse_location

BUILT_IN = Path(__file__).parent
DOMAIN_FILE = "domain.yaml"


@dataclass(frozen=True)
class Domain:
    """A field of knowledge; `protected` marks a strength that no training may lower.

    A domain with a `suite` belongs to that suite alone: other suites do not ask it, and what is
    trained, kept or routed for others leaves it out. Its questions may belong to a domain that it
    `covers` as well.
    """

    name: str
    title: str
    description: str
    keywords: tuple[str, ...]
    tasks: tuple[str, ...]
    sources: tuple[Source, ...]
    protected: bool
    folder: Path
    suite: str = ""
    covers: tuple[str, ...] = ()

    @property
    def is_built_in(self) -> bool:
        """Whether it comes with the program."""
        return self.folder.parent == BUILT_IN

    @property
    def questions_file(self) -> Path | None:
        """The domain's own questions, None where it has none."""
        path = self.folder / "questions.jsonl"
        return path if path.is_file() else None

    @property
    def documents(self) -> Path | None:
        """The folder of the domain's own documents, None where it has none."""
        path = self.folder / "documents"
        return path if path.is_dir() else None


def load_domains(workspace: Path | None = None) -> dict[str, Domain]:
    """Read the built-in domains and, after them, those in `<workspace>/domains`, sorted by name.

    Names and tasks are unique over all of them.
    """
    domains: dict[str, Domain] = {}
    owners: dict[str, str] = {}
    for path in [*_built_in_files(), *_workspace_files(workspace)]:
        domain, entries = _load(path)
        if domain.name in domains:
            line = entries.get("name", Node()).line
            what = f"name `{domain.name}` is that of a built-in domain"
            raise Malformed(path, what, line=line, hint="rename the folder")
        _claim(path, domain.name, entries["tasks"], owners)
        domains[domain.name] = domain
    return domains


def companions(domains: Mapping[str, Domain], names: Collection[str]) -> dict[str, Domain]:
    """Those of the same suites as the named domains, themselves included.

    Together they are asked, trained, protected and routed to.
    """
    suites = {domains[name].suite if name in domains else "" for name in names}
    return {name: domain for name, domain in domains.items() if domain.suite in suites}


def bare_domain(name: str, workspace: Path, tasks: Sequence[str] = (), suite: str = "") -> Domain:
    """A domain without a domain.yaml, for which the user names all files."""
    folder = Workspace(workspace).domains / name
    return Domain(name, name, "", (), tuple(tasks), (), False, folder, suite)


def load_domain_file(path: Path) -> Domain:
    """Read one domain.yaml; its folder is the domain's name."""
    return _load(path)[0]


# --- one file

_SCHEMA: Mapping[str, Field] = {
    "title": Field("text", required=True),
    "description": Field("text", required=True),
    "keywords": Field("texts", required=True),
    "tasks": Field("texts", required=True),
    "sources": Field(
        "tables",
        keys={
            "from": Field("text", required=True),
            "licence": Field("text", required=True),
            "title": Field("text"),
            "url": Field("text"),
        },
    ),
    "protected": Field("flag"),
    "suite": Field("text"),
    "covers": Field("texts"),
    "name": Field("text"),
}
_NAME = re.compile(r"[a-z0-9_-]+")


def _load(path: Path) -> tuple[Domain, Mapping[str, Node]]:
    name = path.absolute().parent.name
    if not _NAME.fullmatch(name):
        what = f"folder name `{name}` may hold only a-z, 0-9, `_` and `-`"
        raise Malformed(path.parent, what, hint="rename the folder")
    entries = read_yaml(path, _SCHEMA)
    given = entries.get("name", Node())
    if given.text not in ("", name):
        what = f"`name` is `{given.text}`, but the folder is `{name}`"
        raise Malformed(path, what, line=given.line, hint="leave `name` out, or rename the folder")
    return _domain(name, path, entries), entries


def _domain(name: str, path: Path, entries: Mapping[str, Node]) -> Domain:
    absent = Node()
    return Domain(
        name=name,
        title=entries["title"].text,
        description=entries["description"].text,
        keywords=tuple(_spellings(entries["keywords"].texts)),
        tasks=entries["tasks"].texts,
        sources=_sources(path, entries.get("sources", absent)),
        protected=entries.get("protected", absent).flag,
        folder=path.parent,
        suite=entries.get("suite", absent).text,
        covers=entries.get("covers", absent).texts,
    )


def _sources(path: Path, entry: Node) -> tuple[Source, ...]:
    absent = Node()
    sources: dict[str, Source] = {}
    for table in entry.tables:
        where, line = table["from"].text, table["from"].line
        _check_place(path, where, line)
        if where in sources:
            raise Malformed(path, f"`sources` holds `{where}` twice", line=line)
        licence = table["licence"].text
        title, url = (table.get(key, absent).text for key in ("title", "url"))
        sources[where] = Source(where, licence, title, url)
    return tuple(sources.values())


def _check_place(path: Path, where: str, line: int | None) -> None:
    try:
        kind, rest = parse_location(where)
    except ValueError as error:
        raise Malformed(path, f"`from`: {error}", line=line) from None
    if kind == "file" and leads_out(rest):
        hint = "copy the documents into the folder, or give them with `--source`"
        what = f"`from`: `{where}` leads out of the domain's folder"
        raise Malformed(path, what, line=line, hint=hint)


def _claim(path: Path, name: str, tasks: Node, owners: dict[str, str]) -> None:
    for task, line in zip(tasks.texts, tasks.lines, strict=True):
        owner = owners.setdefault(task, name)
        if owner != name:
            what = f"`tasks` claims `{task}`, which belongs to domain `{owner}`"
            raise Malformed(path, what, line=line, hint="leave it out: a task has one domain")


# --- the folders


def _built_in_files() -> Iterator[Path]:
    yield from sorted(BUILT_IN.glob(f"*/{DOMAIN_FILE}"))


def _workspace_files(workspace: Path | None) -> Iterator[Path]:
    """Yield the domain.yaml of every folder; no part of a domain may lead out of the workspace."""
    if workspace is None:
        return
    root = Workspace(workspace).domains
    _refuse_link_out(root, workspace)
    if not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        if folder.name.startswith("."):
            continue
        _refuse_link_out(folder, workspace)
        if folder.is_dir():
            yield _domain_file(folder, workspace)


def _domain_file(folder: Path, workspace: Path) -> Path:
    for name in (DOMAIN_FILE, "questions.jsonl", "documents"):
        _refuse_link_out(folder / name, workspace)
    path = folder / DOMAIN_FILE
    if not path.is_file():
        raise Malformed(
            folder, f"no `{DOMAIN_FILE}` in this folder", hint="write one, or move the folder away"
        )
    return path


def _refuse_link_out(path: Path, workspace: Path) -> None:
    if not stays_inside(path, workspace):
        hint = "copy what it points to into the workspace"
        raise Malformed(path, "link leads out of the workspace", hint=hint)


def _spellings(words: Iterable[str]) -> Iterator[str]:
    """The words, and after one with accents how it is typed without them."""
    for word in words:
        yield word
        if (plain := without_accents(word.casefold())) != word.casefold():
            yield plain
