"""Log of the last served replies, so that one can be marked; older ones are overwritten.

It is one SQLite file, because a server, pages and commands write it at the same time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, NoSuch
from domainlift.files import disk_errors
from domainlift.workspace import Workspace

#: Replies that are kept unless a user says otherwise; 0 keeps none.
KEPT = 5_000
#: Stands for the newest reply where an id is asked for.
LATEST = "latest"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS replies "
    "(number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, row TEXT)"
)
_PREFIXES = ("chatcmpl-", "cmpl-")


@dataclass(frozen=True)
class ServedReply:
    """A reply as it was given: by which version, and from which passages.

    `version` names the version or plan, `plan` is the SHA-256 of its file. `cosine` is that of the
    best chunk of the knowledge base, None where none was searched; `passages` have `source` and
    `text`. `routed` says that the plan chose the domain, and nobody named the model or an adapter.
    """

    id: str
    when: str
    version: str
    plan: str
    model: str
    question: str
    answer: str
    domain: str
    adapter: str | None
    supported: bool | None
    cosine: float | None
    passages: tuple[Mapping[str, Any], ...] = ()
    routed: bool = True


class ReplyLog:
    """The newest replies of a workspace, at most `kept`; 0 reads only."""

    def __init__(self, workspace: Path, kept: int = KEPT) -> None:
        self.path = Workspace(workspace).reply_log
        self.kept = kept

    def add(self, reply: ServedReply) -> None:
        """Keep a reply, and forget the oldest one beyond the bound."""
        if not self.kept:
            return
        row = json.dumps(asdict(reply), ensure_ascii=False).encode("utf-8", "backslashreplace")
        with self._open() as store, store:
            cursor = store.execute(
                "INSERT INTO replies (id, row) VALUES (?, ?)", (reply.id, row.decode())
            )
            oldest = (cursor.lastrowid or 0) - self.kept
            store.execute("DELETE FROM replies WHERE number <= ?", (oldest,))

    def get(self, name: str) -> ServedReply:
        """The reply of an id, of its beginning, or the `latest`; NoSuch where it is not kept."""
        wanted = name
        for prefix in _PREFIXES:
            wanted = wanted.removeprefix(prefix)
        found: list[tuple[str]] = []
        if self.path.is_file():
            with self._open() as store:
                if wanted == LATEST:
                    query = "SELECT row FROM replies ORDER BY number DESC LIMIT 1"
                    found = store.execute(query).fetchall()
                elif wanted:
                    query = "SELECT row FROM replies WHERE substr(id, 1, ?) = ? LIMIT 2"
                    found = store.execute(query, (len(wanted), wanted)).fetchall()
        if len(found) != 1:
            raise NoSuch("reply", name, [LATEST])
        return _reply(found[0][0])

    def newest(self, most: int = KEPT) -> list[ServedReply]:
        """The newest replies, the last one first; none where nothing is kept."""
        if not self.path.is_file():
            return []
        with self._open() as store:
            rows = store.execute("SELECT row FROM replies ORDER BY number DESC LIMIT ?", (most,))
            return [_reply(row) for (row,) in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with disk_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as store:
                store.execute("PRAGMA secure_delete = ON")
                store.execute(_SCHEMA)
                yield store
        except sqlite3.Error as error:
            raise BenchError(
                f"the log of replies `{self.path}` cannot be used: {error}",
                "delete the file: what got feedback is kept elsewhere",
            ) from error


def _reply(row: str) -> ServedReply:
    values = json.loads(row)
    return ServedReply(**{**values, "passages": tuple(values["passages"])})
