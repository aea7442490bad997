"""A recipe: what is mixed in which proportions and order, and how it is trained.

```yaml
proportions: {biology: 0.6, history: 0.4}   # they sum to 1
replay: 1.0                                 # rows of known material per row of new material
order: shuffled                             # or easy-to-hard
seed: 0
training: {method: lora, rank: 16}          # the fields of the training settings
```
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from domainlift.errors import Malformed, Misuse
from domainlift.yaml_schema import Field, Node, Value, read_yaml

Order = Literal["shuffled", "easy-to-hard"]
#: The recipes that come with the project.
BUILT_IN = Path(__file__).parent / "recipes"
_ORDERS: Mapping[str, Order] = {order: order for order in get_args(Order)}
_TOLERANCE = 1e-6
_SCHEMA: Mapping[str, Field] = {
    "proportions": Field("values", required=True),
    "replay": Field("number"),
    "order": Field("text"),
    "seed": Field("number"),
    "training": Field("values"),
}


@dataclass(frozen=True)
class Recipe:
    """What to mix: the share of each domain among new rows, and known rows per new row.

    `training` are settings for the training, as they stand in the file.
    """

    proportions: Mapping[str, float]
    replay: float = 1.0
    order: Order = "shuffled"
    seed: int = 0
    training: Mapping[str, Value] = field(default_factory=dict)


def read_recipe(path: Path, settings: type | None = None) -> Recipe:
    """Read a recipe; Malformed with file, key and line where something is wrong.

    `settings` is the dataclass that the section `training` fills: its keys must be fields of it,
    and its values of their types.
    """
    entries = read_yaml(path, _SCHEMA)
    training = entries.get("training", Node()).values
    if settings is not None:
        _check_training(path, training, settings)
    return Recipe(
        proportions=_proportions(path, entries["proportions"]),
        replay=_replay(path, entries.get("replay")),
        order=_order(path, entries.get("order")),
        seed=_seed(path, entries.get("seed")),
        training={name: entry.value for name, entry in training.items()},
    )


def one_domain(domain: str, *, replay: float = 1.0, seed: int = 0) -> Recipe:
    """The recipe for one domain, where no file says otherwise."""
    return Recipe({domain: 1.0}, replay=replay, seed=seed)


def read_setting(text: str, settings: type) -> tuple[str, Value]:
    """Read `key=value` as a line of the section `training`; Misuse where it cannot stand there."""
    name, found, value = (part.strip() for part in text.partition("="))
    if not found:
        raise Misuse(f"`{text}` is no setting", "give it as KEY=VALUE: `--set rank=8`")
    kind = get_type_hints(settings).get(name)
    readings = list(_readings(value))
    chosen = next((each for each in readings if _fits(each, kind)), readings[0])
    _check_setting(name, chosen, settings)
    return name, chosen


def _proportions(path: Path, entry: Node) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, own in entry.values.items():
        value = own.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            hint = "leave out a domain that gets nothing"
            what = f"proportion of `{name}` must be a number over 0 and at most 1"
            raise Malformed(path, what, line=own.line, hint=hint)
        found[name] = float(value)
    total = math.fsum(found.values())
    if abs(total - 1) > _TOLERANCE:
        hint = "for instance " + ", ".join(f"{n}: {v / total:.6g}" for n, v in found.items())
        what = f"`proportions` sum to {total:.6g}, not to 1"
        raise Malformed(path, what, line=entry.line, hint=hint if found else None)
    return found


def _replay(path: Path, entry: Node | None) -> float:
    if entry is None:
        return Recipe.replay
    if entry.number < 0:
        raise Malformed(path, "`replay` must be 0 or more", line=entry.line)
    return float(entry.number)


def _order(path: Path, entry: Node | None) -> Order:
    if entry is None:
        return Recipe.order
    if entry.text in _ORDERS:
        return _ORDERS[entry.text]
    hint = _nearest(entry.text, _ORDERS)
    raise Malformed(path, f"unknown order `{entry.text}`", line=entry.line, hint=hint)


def _seed(path: Path, entry: Node | None) -> int:
    if entry is None:
        return Recipe.seed
    if not isinstance(entry.number, int) or entry.number < 0:
        raise Malformed(path, "`seed` must be a whole number, 0 or more", line=entry.line)
    return entry.number


# --- the settings of the training


def _check_training(path: Path, training: Mapping[str, Node], settings: type) -> None:
    for name, entry in training.items():
        try:
            _check_setting(name, entry.value, settings)
        except Misuse as error:
            raise Malformed(path, error.what, line=entry.line, hint=error.hint) from error


def _check_setting(name: str, value: Value, settings: type) -> None:
    types = get_type_hints(settings)
    known = [each.name for each in fields(settings) if each.init]
    if name not in known:
        raise Misuse(f"unknown key `{name}` in `training`", _nearest(name, known))
    if not _fits(value, types[name]):
        raise Misuse(f"`{name}` in `training` must be {_wanted(types[name])}, not {_told(value)}")


def _readings(text: str) -> Iterator[Value]:
    """What a word of the command line can stand for, the narrowest first."""
    flags = {"true": True, "false": False}
    if text in flags:
        yield flags[text]
    for number in (int, float):
        with suppress(ValueError):
            yield number(text)
    yield text
    yield tuple(filter(None, map(str.strip, text.split(","))))


_NAMES: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of texts",
    list: "a list of texts",
}


def _fits(value: Value, wanted: Any) -> bool:
    """Whether a value of YAML can stand in a field of this type.

    A whole number is a number, too, and a field that may be None is simply left out of the file.
    """
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(wanted) if each is not NoneType)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in get_args(wanted))
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin in (tuple, list) or wanted in (tuple, list):
        return isinstance(value, tuple)
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return value in list(wanted)
    return type(value) is wanted


def _wanted(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return " or ".join(_wanted(each) for each in get_args(kind) if each is not NoneType)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in get_args(kind))
    name = _NAMES.get(origin if origin in (tuple, list) else kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(f"`{each}`" for each in kind)
    return name if name is not None else "left out of a recipe"


def _told(value: Value) -> str:
    return f"`{value}`" if not isinstance(value, tuple) else "a list"


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = get_close_matches(name, known, n=1)
    every = ", ".join(f"`{each}`" for each in known)
    return f"did you mean `{near[0]}`?" if near else f"known: {every}"
