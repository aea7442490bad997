"""Recipe of a training: proportions of the domains, order of the rows, settings.

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from domainlift.errors import Malformed, Misuse, NoSuch
from domainlift.yaml_schema import Field, Node, Value, dataclass_schema, parse_yaml, read_yaml

Order = Literal["shuffled", "easy-to-hard"]
#: The recipes that come with the project.
BUILT_IN = Path(__file__).parent / "recipes"
_TOLERANCE = 1e-6
_PLAIN = {
    "replay": Field("number", least=0),
    "order": Field("text", choices=get_args(Order)),
    "seed": Field("whole", least=0),
}
_SCHEMA = {"proportions": Field("values", required=True), **_PLAIN}


@dataclass(frozen=True)
class Recipe:
    """Mix of a training: the share of each domain among new rows, and replay rows per new row.

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
    keys = None if settings is None else dataclass_schema(settings)
    training = Field("values") if keys is None else Field("table", keys=keys)
    entries = read_yaml(path, {**_SCHEMA, "training": training})
    given: dict[str, Any] = {name: entries[name].value for name in _PLAIN if name in entries}
    return Recipe(
        _proportions(path, entries["proportions"]),
        **{**given, "replay": float(given.get("replay", Recipe.replay))},
        training={name: e.value for name, e in entries.get("training", Node()).values.items()},
    )


def one_domain(domain: str, *, replay: float = 1.0, seed: int = 0) -> Recipe:
    """The recipe for one domain, where no file says otherwise."""
    return Recipe({domain: 1.0}, replay=replay, seed=seed)


def read_setting(text: str, settings: type) -> tuple[str, Value]:
    """Read `key=value` as a line of the section `training`; Misuse where it cannot stand there."""
    name, sign, value = (part.strip() for part in text.partition("="))
    if not sign:
        raise Misuse(f"`{text}` is no setting", "give it as KEY=VALUE: `--set rank=8`")
    schema = dataclass_schema(settings)
    if name not in schema:
        raise NoSuch("setting", name, schema)
    if schema[name].kind == "texts":
        value = f"[{value}]"
    return name, parse_yaml(f"{name}: {value}", Path(f"--set {text}"), schema)[name].value


def _proportions(path: Path, entry: Node) -> dict[str, float]:
    shares: dict[str, float] = {}
    for name, own in entry.values.items():
        value = own.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            hint = "leave out a domain that gets nothing"
            what = f"proportion of `{name}` must be a number over 0 and at most 1"
            raise Malformed(path, what, line=own.line, hint=hint)
        shares[name] = float(value)
    total = math.fsum(shares.values())
    if abs(total - 1) > _TOLERANCE:
        hint = "for instance " + ", ".join(f"{n}: {v / total:.6g}" for n, v in shares.items())
        what = f"`proportions` sum to {total:.6g}, not to 1"
        raise Malformed(path, what, line=entry.line, hint=hint if shares else None)
    return shares
