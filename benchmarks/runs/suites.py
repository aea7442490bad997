"""A suite: a name for tasks that are run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tasks.readers import read_text
from benchmarks.tasks.registry import file_kind, task_names
from domainlift.errors import Malformed, NoSuch
from engines.base import Mode

if TYPE_CHECKING:
    import yaml

    from knowledge_bases.domains import Domain


@dataclass(frozen=True)
class Suite:
    """Tasks that are run together; `shots` and `mode` win over the tasks' own where given."""

    name: str
    tasks: tuple[str, ...]
    shots: int | None = None
    mode: Mode | None = None


def load_suite(name_or_path: str, domains: Mapping[str, Domain]) -> Suite:
    """Return the suite of this name, or the one in this YAML file."""
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _from_file(path, domains)
    if name_or_path not in SUITES:
        raise NoSuch("suite", name_or_path, SUITES)
    return Suite(name_or_path, tuple(SUITES[name_or_path](domains)))


def _demo(domains: Mapping[str, Domain]) -> list[str]:
    built_in = {name: domain for name, domain in domains.items() if _is_built_in(domain)}
    return _tasks_of(("own",), built_in)


def _tasks_of(prefixes: Sequence[str], domains: Mapping[str, Domain]) -> list[str]:
    return [name for name in task_names(domains) if name.partition(":")[0] in prefixes]


# Name -> its tasks. Stored figures of a suite hold only as long as its tasks stay the same.
SUITES: dict[str, Callable[[Mapping[str, Domain]], list[str]]] = {
    "demo": _demo,
    "mmlu": partial(_tasks_of, ("mmlu",)),
    "full": partial(_tasks_of, ("mmlu", "gsm8k", "arc", "own")),
}


def _is_built_in(domain: Domain) -> bool:
    import knowledge_bases

    ours = {Path(folder).resolve() for folder in knowledge_bases.__path__}
    return domain.folder.resolve().parent in ours


# --- a suite from a file

KEYS = ("name", "tasks", "shots", "mode")


@dataclass(frozen=True)
class _Value:
    """What stands under a key, with its line; `lines` are those of a list's items."""

    value: Any
    line: int
    lines: tuple[int, ...] = ()


def _from_file(path: Path, domains: Mapping[str, Domain]) -> Suite:
    entries = _entries(path)
    for key, entry in entries.items():
        if key not in KEYS:
            raise _malformed(path, entry.line, NoSuch("key", key, KEYS))
    if "tasks" not in entries:
        raise Malformed(path, "no `tasks`", line=1, hint=TASKS_HINT)
    return Suite(
        name=_name(path, entries.get("name")),
        tasks=tuple(_tasks(path, entries["tasks"], domains)),
        shots=_shots(path, entries.get("shots")),
        mode=_mode(path, entries.get("mode")),
    )


TASKS_HINT = "write `tasks: [mmlu:anatomy, gsm8k]`"


def _entries(path: Path) -> dict[str, _Value]:
    """Read a YAML mapping one level deep, each value with its line."""
    import yaml

    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        what = getattr(error, "problem", None) or type(error).__name__
        raise Malformed(path, f"no valid YAML ({what})", line=line) from None
    if not isinstance(node, yaml.MappingNode):
        hint = "write `name: …` and `tasks: […]`"
        raise Malformed(path, "is not a mapping of keys to values", line=1, hint=hint)
    if len(node.value) != len(loaded):
        raise Malformed(path, "a key stands there twice", line=1, hint="leave one of them out")
    pairs = zip(node.value, loaded.items(), strict=True)
    return {str(key): _value(nodes, value) for nodes, (key, value) in pairs}


def _value(nodes: tuple[yaml.Node, yaml.Node], value: Any) -> _Value:
    key, node = nodes
    items = node.value if isinstance(value, list) else ()
    lines = tuple(item.start_mark.line + 1 for item in items)
    return _Value(value, key.start_mark.line + 1, lines)


def _tasks(path: Path, entry: _Value, domains: Mapping[str, Domain]) -> Iterator[str]:
    given = entry.value
    if not isinstance(given, list) or not given or not all(isinstance(t, str) for t in given):
        raise Malformed(path, "`tasks` is not a list of names", line=entry.line, hint=TASKS_HINT)
    for place, (name, line) in enumerate(zip(given, entry.lines, strict=True)):
        if name in given[:place]:
            raise Malformed(path, f"task `{name}` stands there twice", line=line)
        yield _task(path, line, name, domains)


def _task(path: Path, line: int, name: str, domains: Mapping[str, Domain]) -> str:
    """Return the task's name; a file's place is taken from the suite's folder."""
    if file_kind(name):
        file = path.parent / name
        if not file.is_file():
            raise Malformed(path, f"no file `{file}`", line=line)
        return str(file)
    known = task_names(domains)
    if name not in known and not name.startswith("lm-eval:"):
        raise _malformed(path, line, NoSuch("task", name, known, see="bench domains"))
    return name


def _name(path: Path, entry: _Value | None) -> str:
    if entry is None:
        return path.stem
    if not isinstance(entry.value, str) or not entry.value.strip():
        raise Malformed(path, "`name` is not a text", line=entry.line)
    return entry.value.strip()


def _shots(path: Path, entry: _Value | None) -> int | None:
    if entry is None or entry.value is None:
        return None
    shots = entry.value
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 0:
        raise Malformed(
            path, f"`shots` is `{_shown(shots)}`, not a number from 0 on", line=entry.line
        )
    return shots


def _mode(path: Path, entry: _Value | None) -> Mode | None:
    if entry is None or entry.value is None:
        return None
    if entry.value not in tuple(Mode):
        raise _malformed(path, entry.line, NoSuch("mode", _shown(entry.value), tuple(Mode)))
    return Mode(entry.value)


def _shown(value: object) -> str:
    # A value with aliases can be short in the file and without end when written out.
    return f"{value}"[:40] if isinstance(value, str | int | float) else type(value).__name__


def _malformed(path: Path, line: int, error: NoSuch) -> Malformed:
    return Malformed(path, error.what, line=line, hint=error.hint)
