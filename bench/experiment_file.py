"""Experiment file: a command with its options as YAML, and the variants of a sweep over them.

```yaml
command: train                  # run, train or improve (the default)
model: tiny
domains: [biology]              # keys are the command's options, with `_`
training: {rank: 8}             # what `--set` says
stages: [sft, dpo]              # or `sft,dpo`, as the option has it
dpo: {beta: 0.2}                # the settings of a stage: `--set dpo.beta=0.2`
traces: {rating: good}          # the workspace's traces as rows: `--traces rating=good`
export: [gguf-lora]
grid: {training.learning_rate: [1e-3, 2e-3]}
```
"""

from __future__ import annotations

import inspect
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, get_type_hints

from domainlift.errors import Malformed
from domainlift.registry import load_object
from domainlift.text.display import without_credentials
from domainlift.yaml_schema import Field, Node, dataclass_schema, dump_yaml, field_of, parse_yaml
from finetune.data.recipe import read_setting
from finetune.export.registry import TARGETS
from finetune.stages.stage_settings import SFT, STAGES, StageSettings
from finetune.training.settings import TrainingArguments
from traces.choose import TraceUse

COMMANDS = {
    "improve": "bench.commands.improve:improve_command",
    "run": "bench.commands.run:run",
    "train": "bench.commands.train:train_command",
}
#: Options that say how a command is watched, not what it does.
_LEFT_OUT = {"as_json", "print_config", "challenger", "dry_run", "resume", "fresh"}
#: Options that take several, separated by commas.
_SEPARATED = {"adapter", "domains", "metric", "only", "rag", "stages"}
_SWEEPS = ("grid", "random")
#: Combinations of a sweep, at most.
MOST = 1000


@dataclass(frozen=True)
class Experiment:
    """A command, its options under the file's keys, and what surrounds them.

    `sweep` has the changes of each variant, by dotted key; () where there is none.
    """

    path: Path
    command: str
    options: Mapping[str, Any]
    export: tuple[str, ...] = ()
    sweep: tuple[Mapping[str, Any], ...] = ()

    def run(self, *, as_json: bool) -> None:
        """Call the command's function."""
        function = _function(self.command)
        given: dict[str, Any] = {"as_json": as_json}
        for name, option in _typer_options(self.command).items():
            variable = getattr(option, "envvar", None)
            if variable is not None and variable in os.environ:
                given[name] = os.environ[variable]
        tables = _tables(self.command)
        for key, value in self.options.items():
            name = _parameter(self.command, key)
            if key in tables:
                stage = f"{key}." if tables[key] is StageSettings else ""
                told = [f"{stage}{k}={_told(v)}" for k, v in value.items()]
                given[name] = [*given.get(name, ()), *told]
            else:
                given[name] = value
        hints = get_type_hints(function)
        paths = {name for name in given if _is_path(hints[name])}
        function(**{n: Path(value) if n in paths else value for n, value in given.items()})

    def variants(self) -> list[tuple[str, Experiment]]:
        """What is run, each with what it is called by; Malformed where a value does not fit."""
        return [(_label(change), self._changed(change)) for change in self.sweep or ({},)]

    def _changed(self, change: Mapping[str, Any]) -> Experiment:
        whole: dict[str, Any] = {"command": self.command, **self.options}
        for dotted, value in change.items():
            section, _, key = dotted.rpartition(".")
            if section:
                whole[section] = {**whole.get(section, {}), key: value}
            else:
                whole[key] = value
        read = parse_experiment(dump_yaml(whole), Path(f"{self.path} ({_label(change)})"))
        return Experiment(self.path, read.command, read.options, self.export)


def read_experiment(path: Path) -> Experiment:
    """Read a file; Malformed with its line where something is wrong."""
    try:
        return parse_experiment(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(path, f"cannot be read ({error})") from None


def parse_experiment(text: str, path: Path) -> Experiment:
    """Read a text, which errors say to be in `path`."""
    said = re.search(r"^command:\s*[\"']?(\w+)", text, re.MULTILINE)
    command = said[1] if said and said[1] in COMMANDS else "improve"
    entries = parse_yaml(text, path, _schema(command))
    tables = _tables(command)
    options = {
        key: {k: _plain(own) for k, own in node.values.items()} if key in tables else _plain(node)
        for key, node in entries.items()
        if key not in _AROUND
    }
    missing = [key for key in _needed(command) if key not in options]
    if missing:
        raise Malformed(path, f"`{command}` needs `{missing[0]}`", hint=f"add `{missing[0]}: [A]`")
    export = entries["export"].texts if "export" in entries else ()
    for name in export:
        if name not in TARGETS or command == "run":
            hint = f"`train` and `improve` can export: {', '.join(TARGETS)}"
            raise Malformed(path, f"cannot export `{name}`", line=entries["export"].line, hint=hint)
    return Experiment(path, command, options, export, _sweep(path, command, entries))


def config_text(command: str, given: Mapping[str, Any]) -> str:
    """The file that a command amounts to, without what is left at its default, nor credentials."""
    parameters = inspect.signature(_function(command)).parameters
    told: dict[str, Any] = {"command": command}
    for name, parameter in parameters.items():
        value = given[name]
        if name in _LEFT_OUT or value is None or value == parameter.default:
            continue
        key = _key(command, name)
        told |= _settings(command, key, value) if key in _tables(command) else {key: _shown(value)}
    return dump_yaml(told)


# --- keys


def _function(command: str) -> Callable[..., None]:
    function: Callable[..., None] = load_object(COMMANDS[command])
    return function


def _typer_options(command: str) -> dict[str, Any]:
    """What typer knows of each parameter, its environment variable and least value among it."""
    parameters = inspect.signature(_function(command), eval_str=True).parameters
    return {name: each.annotation.__metadata__[0] for name, each in parameters.items()}


def _key(command: str, parameter: str) -> str:
    return {"change": "training", "train.name": "domains"}.get(
        parameter if parameter == "change" else f"{command}.{parameter}", parameter
    )


def _parameter(command: str, key: str) -> str:
    hints = get_type_hints(_function(command))
    is_stage = _tables(command).get(key) is StageSettings
    return next(name for name in hints if _key(command, name) == ("training" if is_stage else key))


def _tables(command: str) -> dict[str, type]:
    """The keys that are tables of settings, each with the dataclass that it fills."""
    parameters = inspect.signature(_function(command)).parameters
    tables: dict[str, type] = {"training": TrainingArguments} if "change" in parameters else {}
    if "stages" in parameters:
        tables |= {stage: StageSettings for stage in STAGES if stage != SFT}
    return tables | ({"traces": TraceUse} if "traces" in parameters else {})


def _schema(command: str) -> dict[str, Field]:
    hints = get_type_hints(_function(command))
    options = {
        _key(command, name): replace(
            field_of(hints[name]), least=getattr(option, "min", None), listed=name in _SEPARATED
        )
        for name, option in _typer_options(command).items()
        if name not in _LEFT_OUT
    }
    tables = {
        key: Field("table", keys=dataclass_schema(kind)) for key, kind in _tables(command).items()
    }
    return options | tables | _AROUND


def _needed(command: str) -> list[str]:
    parameters = inspect.signature(_function(command)).parameters
    return [_key(command, n) for n, p in parameters.items() if p.default is inspect.Parameter.empty]


_AROUND = {
    "command": Field("text", choices=tuple(COMMANDS)),
    "export": Field("texts"),
    "grid": Field("lists"),
    "random": Field("lists"),
    "draws": Field("whole", least=1),
}


# --- sweeps


def _sweep(path: Path, command: str, entries: Mapping[str, Node]) -> tuple[Mapping[str, Any], ...]:
    kinds = [kind for kind in _SWEEPS if kind in entries]
    if not kinds:
        return ()
    node, schema, tables = entries[kinds[0]], _schema(command), _tables(command)
    if len(kinds) > 1 or command == "improve":
        what = "`grid` and `random` exclude each other"
        if command == "improve":
            what = "held-out questions are looked at once, so `improve` has no sweep"
        raise Malformed(path, what, line=node.line, hint="sweep `train` instead")
    lists = {key: own.items for key, own in node.values.items()}
    for key, own in node.values.items():
        first, _, rest = key.partition(".")
        if first in _AROUND or first not in schema or bool(rest) != (first in tables):
            names = [k for k in schema if k not in {*_AROUND, *tables}]
            names += [f"{t}.{k}" for t, kind in tables.items() for k in dataclass_schema(kind)]
            hint = _near(key, names)
            raise Malformed(path, f"no key `{key}` to sweep over", line=own.line, hint=hint)
    count = prod(map(len, lists.values()))
    if count > MOST:
        what = f"{count:,} combinations, and {MOST:,} at most"
        raise Malformed(path, what, line=node.line, hint="`random:` with `draws: 20` tries some")
    every = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    if kinds == ["random"]:
        draws = int(entries["draws"].number) if "draws" in entries else 10
        every = random.Random(0).sample(every, min(draws, len(every)))
    return tuple(every)


def _near(key: str, names: Sequence[str]) -> str:
    inner = [name for name in names if name.partition(".")[2] == key]
    near = inner or get_close_matches(key, names, n=1)
    return f"did you mean `{near[0]}`?" if near else f"keys: {', '.join(names)}"


# --- values


def _plain(node: Node) -> Any:
    return list(node.value) if isinstance(node.value, tuple) else node.value


def _shown(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return value if isinstance(value, bool | int | float) else without_credentials(str(value))


def _settings(command: str, table: str, changes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The tables that changes in the form KEY=VALUE fill: this one, or those of stages."""
    tables = _tables(command)
    made: dict[str, dict[str, Any]] = {}
    for text in changes:
        stage, _, change = text.partition(".")
        of_stage = tables.get(stage) is StageSettings
        section, change = (stage, change) if of_stage else (table, text)
        key, value = read_setting(
            change, tables[section], "--set" if table == "training" else f"--{table}"
        )
        made.setdefault(section, {})[key] = _shown(value)
    return made


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _label(change: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_told(value)}" for key, value in change.items())


def _is_path(hint: Any) -> bool:
    return Path in (hint, *getattr(hint, "__args__", ()))
