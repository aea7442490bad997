r"""Store of runs: one folder per run, written so that a kill at any moment costs nothing.

manifest.json     everything needed to repeat the run, and whether it is finished
questions.jsonl   the questions that are asked, written once before the first answer
answers.jsonl     one line per answered question, appended and flushed as each answer comes

A line counts when its line feed is there; a torn last line is dropped and its question asked
again. One process writes a run at a time, and holds the run's lock while it does.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed, NoSuch
from domainlift.files import disk_errors, exclusive_lock, write_json, write_text
from domainlift.jsonl import AppendLog, read_lines_at, scan_log
from domainlift.types import Question
from domainlift.workspace import Workspace

SCHEMA = 2

#: Keys of a record by their names in schema 1.
_RENAMED = {
    "rung": "decided_by",
    "floored": "n_bounded",
    "asked": "request_digest",
    "found": "retrieved",
}
_TREATMENTS = {"passages": "rag", "adapter": "lora", "adapter + passages": "rag+lora"}
#: Reasons of schema 1 where a search was made and no passage was kept.
_SEARCHED = ("nothing found", "the gate is shut")
_ADAPTER = re.compile(r"(?:^|, )adapter (\S+)")


def migrate_record(row: dict[str, Any]) -> dict[str, Any]:
    """A stored answer under the keys of this schema; rows of both may stand in one file.

    Schema 1 has no `searched`, and its first rows no `adapter`: both follow from the reason.
    """
    if "searched" in row:
        return row
    record = {_RENAMED.get(key, key): value for key, value in row.items()}
    reason = record.get("treatment", "")
    record["searched"] = bool(record.get("retrieved")) or any(s in reason for s in _SEARCHED)
    if "adapter" not in record and (named := _ADAPTER.search(reason)):
        record["adapter"] = named[1]
    return record


def migrate_manifest(data: Mapping[str, Any]) -> dict[str, Any]:
    """A stored manifest in this schema, with today's names of treatments."""
    settings = dict(data["settings"])
    if "treatment" in settings:
        settings["treatment"] = _TREATMENTS.get(settings["treatment"], settings["treatment"])
    return {**data, "settings": settings, "schema": SCHEMA}


_HINT = "remove that line"


@dataclass(frozen=True)
class Record:
    """One answered question, as it is stored.

    `correct` is None where the question was not answered, or its task has no right and wrong;
    `metrics` are statistics of the answer by metric. `logprobs` are nats per option.
    `n_bounded` counts options whose log-probability is an upper bound only. `treatment` says what
    was done to the question and why, `adapter` which one answered, `passages` names those that
    stood before it. `searched` says whether a knowledge base was searched, `retrieved` are all
    hits with their scores, and `leak` is the chunk that contains the question. `route`,
    `decided_by` and `matched` are a router's. `request_digest` identifies the request among those
    of one question. `text` is the reply without the `thought` before it, `extracted_by` the form
    in which the answer was found there; runs of before the latter have both in one.
    `refused` says that its error would come again, however often it is asked.
    """

    id: str
    domain: str
    task: str
    status: str
    correct: bool | None
    chosen: int | str | None = None
    correct_raw: bool | None = None
    logprobs: tuple[float, ...] = ()
    mass: float | None = None
    n_bounded: int = 0
    text: str | None = None
    thought: str | None = None
    extracted_by: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    treatment: str = "base"
    adapter: str | None = None
    passages: tuple[str, ...] = ()
    searched: bool = False
    retrieved: tuple[Mapping[str, Any], ...] = ()
    leak: str = ""
    route: str = ""
    decided_by: str = ""
    matched: tuple[str, ...] = ()
    request_digest: str = ""
    refused: bool = False
    metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunManifest:
    """What a run is. `fingerprint` holds the parts that must agree for a run to be resumed.

    `letter_prior` is what is divided out of the letters for the debiased score, {} for nothing;
    `tried_forms` are scores of the forms from which `--scoring auto` took this run's.
    """

    run: str
    model: str
    suite: str
    fingerprint: Mapping[str, str]
    settings: Mapping[str, Any]
    engine: Mapping[str, Any]
    versions: Mapping[str, str]
    questions: int
    created: str
    finished: bool = False
    seconds: float = 0.0
    forward_tokens: int = 0
    letter_prior: Mapping[str, Any] = field(default_factory=dict)
    tried_forms: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


class Run:
    """A run's folder; `writing` gives the right to append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._questions = folder / "questions.jsonl"
        self._answers = AppendLog(folder / "answers.jsonl")

    @property
    def manifest(self) -> RunManifest:
        """Read the manifest; Malformed where it is not one."""
        path = self.folder / "manifest.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            names = {f.name for f in fields(RunManifest)}
            manifest = {key: value for key, value in data.items() if key in names}
            return RunManifest(**migrate_manifest(manifest))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Malformed(
                path,
                "not the manifest of a run",
                hint=f"remove the run: `bench runs rm {self.folder.name}`",
            ) from error

    def questions(self) -> list[Question]:
        """The questions that this run asks."""
        return [question for _, question in self.iter_questions()]

    def records(self) -> list[Record]:
        """Every whole record; should a question stand twice, the later one counts."""
        return list({record.id: record for _, record in self.iter_records()}.values())

    def iter_questions(self) -> Iterator[tuple[int, Question]]:
        """Each stored question with the byte offset of its line."""
        return scan_log(self._questions, _question, "not a stored question", _HINT)

    def iter_records(self) -> Iterator[tuple[int, Record]]:
        """Each whole line of the answers, repeated ones too, with its byte offset."""
        return scan_log(self._answers.path, _record, "not a stored record", _HINT)

    def questions_at(self, offsets: Iterable[int]) -> Iterator[Question]:
        """The questions whose lines begin at these bytes."""
        return read_lines_at(self._questions, _question, offsets)

    def records_at(self, offsets: Iterable[int]) -> Iterator[Record]:
        """The records whose lines begin at these bytes."""
        return read_lines_at(self._answers.path, _record, offsets)

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """Hold the run's lock; a second writer gets an error that names the first."""
        lock = self.folder / "writer.lock"
        hint = "wait for it, or start a run beside it: `--fresh`"
        with exclusive_lock(lock, f"run `{self.folder.name}`", hint), self._answers.writing():
            yield self

    def append(self, record: Record) -> None:
        """Store one answer; it is on its way to the disk when this returns."""
        self._answers.append(_compact(record))

    def amend(self, **changes: Any) -> None:
        """Change keys of the manifest; for the one who holds the lock."""
        write_json(self.folder / "manifest.json", asdict(replace(self.manifest, **changes)))

    def finish(
        self, *, seconds: float, forward_tokens: int, finished: bool, notes: Sequence[str] = ()
    ) -> None:
        """Add what this session did, and what the engine had to say of it, to the manifest."""
        manifest = self.manifest
        said = dict.fromkeys([*manifest.engine.get("notes", ()), *notes])
        self.amend(
            engine={**manifest.engine, "notes": list(said)},
            finished=finished,
            seconds=round(manifest.seconds + seconds, 3),
            forward_tokens=manifest.forward_tokens + forward_tokens,
        )


class RunStore:
    """All runs of a workspace."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = Workspace(workspace)
        self._root = self._workspace.runs

    def ids(self) -> list[str]:
        """The names of all runs, oldest first; reading creates no folder."""
        if not self._root.is_dir():
            return []
        found = [p for p in self._root.iterdir() if (p / "manifest.json").is_file()]
        return [p.name for p in sorted(found, key=lambda p: (_made(p), p.name))]

    def get(self, run: str) -> Run:
        """An existing run; NoSuch with the nearest name otherwise."""
        if run not in self.ids():
            raise NoSuch("run", run, self.ids(), "bench runs list", "bench run")
        return Run(self._workspace.run(run))

    def manifests(self) -> tuple[list[RunManifest], list[Malformed]]:
        """The manifests of all runs, oldest first, and what is wrong with those that are broken."""
        found, broken = [], []
        for name in self.ids():
            try:
                found.append(Run(self._workspace.run(name)).manifest)
            except Malformed as error:
                broken.append(error)
        return found, broken

    def create(self, manifest: RunManifest, questions: Iterable[Question]) -> Run:
        """Make the folder of a new run; the manifest is written last and makes it exist."""
        folder = self._workspace.run(manifest.run)
        rows = (json.dumps(asdict(q), ensure_ascii=False) for q in questions)
        write_text(folder / "questions.jsonl", "".join(row + "\n" for row in rows))
        write_json(folder / "manifest.json", asdict(manifest))
        return Run(folder)

    def remove(self, run: str) -> None:
        """Delete a run, unless it is being written."""
        folder = self.get(run).folder
        with Run(folder).writing():
            pass
        with disk_errors(folder):
            shutil.rmtree(folder)


def _question(row: Mapping[str, Any]) -> Question:
    return Question(**_lists_to_tuples(row))


def _record(row: dict[str, Any]) -> Record:
    made = _lists_to_tuples(migrate_record(row))
    if "metrics" in made:
        made["metrics"] = _lists_to_tuples(made["metrics"])
    return Record(**made)


def _lists_to_tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}


def _made(folder: Path) -> int:
    """When the run began: its questions are written once, while the folder itself changes."""
    path = folder / "questions.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def _compact(record: Record) -> dict[str, Any]:
    """A record without its defaults; `searched` always stands there and marks the schema."""
    kept = {"id", "domain", "task", "status", "correct", "logprobs", "searched"}
    return {
        f.name: value
        for f in fields(record)
        if (value := getattr(record, f.name)) not in (f.default, {}) or f.name in kept
    }
