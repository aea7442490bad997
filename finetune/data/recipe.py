"""Recipe of a training: proportions of the domains, order of the rows, settings.

```yaml
proportions: {biology: 0.6, history: 0.4}   # they sum to 1
replay: 1.0                                 # rows of known material per row of new material
order: shuffled                             # or easy-to-hard
seed: 0
training: {method: lora, rank: 16}          # the fields of the training settings
stages: [sft, rloo]                         # one after the other; [sft] by default
rloo: {reward: countdown}                   # the settings of a stage after sft
```
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from domainlift.errors import Malformed, Misuse, NoSuch
from domainlift.yaml_schema import Field, Node, Value, dataclass_schema, parse_yaml, read_yaml
from finetune.stages.stage_settings import SFT, STAGES, StageSettings, check_stages

Order = Literal["shuffled", "easy-to-hard"]
#: The recipes that come with the project.
BUILT_IN = Path(__file__).parent / "recipes"
_TOLERANCE = 1e-6
_PLAIN = {
    "replay": Field("number", least=0),
    "order": Field("text", choices=get_args(Order)),
    "seed": Field("whole", least=0),
}
_STAGE_KEYS = dataclass_schema(StageSettings)
_SCHEMA = {
    "proportions": Field("values", required=True),
    **_PLAIN,
    "stages": Field("texts"),
    **{stage: Field("table", keys=_STAGE_KEYS) for stage in STAGES if stage != SFT},
}


@dataclass(frozen=True)
class Recipe:
    """Mix of a training: the share of each domain among new rows, and replay rows per new row.

    `training` are settings for the training, as they stand in the file, and `stage_settings` those
    of the stages after `sft` by their names.
    """

    proportions: Mapping[str, float]
    replay: float = 1.0
    order: Order = "shuffled"
    seed: int = 0
    training: Mapping[str, Value] = field(default_factory=dict)
    stages: tuple[str, ...] = (SFT,)
    stage_settings: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse stages that cannot follow each other."""
        check_stages(self.stages)

    def settings_of(self, stage: str) -> StageSettings:
        """The settings of a stage after `sft`."""
        given: Mapping[str, Any] = self.stage_settings.get(stage, {})
        return StageSettings(**given)

    def as_json(self) -> dict[str, Any]:
        """The recipe for cards and digests; without stages as it was before there were any."""
        shown = asdict(self)
        if self.stages == (SFT,):
            del shown["stages"], shown["stage_settings"]
        return shown


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
        training=_values(entries, "training"),
        stages=entries["stages"].texts if "stages" in entries else (SFT,),
        stage_settings={name: _values(entries, name) for name in STAGES if name in entries},
    )


def with_stages(
    recipe: Recipe, stages: str | None, changes: Sequence[str]
) -> tuple[Recipe, list[str]]:
    """The recipe with other stages and changes as `dpo.beta=0.2`; and the changes of the rest."""
    chosen = {name: dict(values) for name, values in recipe.stage_settings.items()}
    rest = []
    for text in changes:
        stage, dot, change = text.partition(".")
        if dot and stage in STAGES and stage != SFT:
            chosen.setdefault(stage, {}).update([read_setting(change, StageSettings)])
        else:
            rest.append(text)
    named = recipe.stages if stages is None else tuple(s.strip() for s in stages.split(","))
    changed = replace(recipe, stages=named, stage_settings=chosen)
    for stage in named:
        changed.settings_of(stage)
    return changed, rest


def _values(entries: Mapping[str, Node], name: str) -> dict[str, Value]:
    return {key: each.value for key, each in entries.get(name, Node()).values.items()}


def read_setting(text: str, settings: type, option: str = "--set") -> tuple[str, Value]:
    """Read `key=value`, as an option has it, as a line of the section that fills `settings`.

    Misuse where it cannot stand there.
    """
    name, sign, value = (part.strip() for part in text.partition("="))
    if not sign:
        example = "rank=8" if option == "--set" else "rating=good"
        raise Misuse(f"`{text}` is no setting", f"give it as KEY=VALUE: `{option} {example}`")
    schema = dataclass_schema(settings)
    if name not in schema:
        raise NoSuch("setting", name, schema)
    if schema[name].kind == "texts":
        value = f"[{value}]"
    return name, parse_yaml(f"{name}: {value}", Path(f"{option} {text}"), schema)[name].value


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
