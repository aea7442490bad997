"""Model card of an adapter: card.json, and README.md for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed
from domainlift.files import sha256, stays_inside

CARD = "card.json"
SCHEMA = 1


@dataclass(frozen=True)
class ModelCard:
    """Model card of an adapter.

    `files` are the SHA-256 of its files by name, `data` is the data card of what it learned,
    `scores` are validation scores by domain, `curves` names the file of the loss curves.
    `budget` says which rows were chosen to fit into it, `speed` has the device and the tokens
    per second, and `perplexity` that of held-out text before and after; cards of earlier versions
    lack them.
    """

    domain: str
    version: str
    created: str
    method: str
    base: str
    base_digest: str
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    scores: Mapping[str, Any]
    curves: str
    files: Mapping[str, str]
    versions: Mapping[str, str]
    schema: int = SCHEMA
    budget: Mapping[str, Any] = field(default_factory=dict)
    speed: Mapping[str, Any] = field(default_factory=dict)
    perplexity: Mapping[str, Any] = field(default_factory=dict)

    def check_files(self, folder: Path, needed: tuple[str, ...]) -> None:
        """Raise Malformed naming the first file that is missing or not as it was written."""
        hint = _anew(folder)
        for name in sorted({*needed, *self.files}):
            path = folder / name
            if path.name != name or (path.is_symlink() and not stays_inside(path, folder)):
                raise Malformed(path, "leads out of the adapter's folder", hint=hint)
            if not path.is_file():
                raise Malformed(path, "missing", hint=hint)
            if sha256(path) != self.files.get(name):
                raise Malformed(path, "not as it was written (its SHA-256 differs)", hint=hint)


def read_model_card(folder: Path) -> ModelCard:
    """Read card.json; Malformed where it is none."""
    path = folder / CARD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise Malformed(path, f"written by another version (schema {data['schema']})")
        names = {each.name for each in fields(ModelCard)}
        card = ModelCard(**{key: value for key, value in data.items() if key in names})
    except FileNotFoundError as error:
        hint = "give a folder that `bench train` wrote"
        raise Malformed(path, "missing, so the base model is not known", hint=hint) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(path, "not the card of an adapter", hint=_anew(folder)) from error
    _check_kinds(folder, card)
    return card


def render_model_card(card: ModelCard) -> str:
    """The README.md of an adapter, in the form that the hub reads."""
    return "\n".join(
        [
            "---",
            *([f"base_model: {card.base}"] if is_hub_name(card.base) else []),
            "library_name: peft",
            f"tags: [{card.method}, {card.domain}]",
            "---",
            "",
            f"# {card.domain} {card.version}",
            "",
            f"An adapter ({card.method}) for `{card.base}` that lifts {card.domain}, "
            f"made {card.created} by domainlift.",
            "",
            f"Base model: `{card.base}`, digest `{card.base_digest}`.",
            *_table("Validation", card.scores),
            *_table("Perplexity per word", card.perplexity),
            *_table("Data", card.data),
            *_table("Recipe", card.recipe),
            *_table("Budget", card.budget),
            *_table("Versions", card.versions),
            "",
        ]
    )


def is_hub_name(name: str) -> bool:
    """Whether a base model's name can be one on the hub, so that its page may be linked."""
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith((".", "~"))


def _anew(folder: Path) -> str:
    return f"train it anew, or remove it: `bench adapters rm {folder.parent.name}/{folder.name}`"


def _check_kinds(folder: Path, card: ModelCard) -> None:
    texts = (card.domain, card.version, card.method, card.base, card.base_digest, card.curves)
    made = (card.budget, card.speed, card.perplexity)
    tables = (card.recipe, card.data, card.scores, card.files, card.versions, *made)
    right = all(isinstance(text, str) for text in texts)
    if not right or not all(isinstance(table, Mapping) for table in tables):
        raise Malformed(folder / CARD, "not the card of an adapter", hint=_anew(folder))


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    cells = (f"| {_cell(key)} | {_cell(value)} |" for key, value in sorted(rows.items()))
    return ["", f"## {title}", "", "| | |", "|---|---|", *cells]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()).replace("|", "\\|")
