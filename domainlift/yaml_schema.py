"""YAML read against a table of keys, with errors that name file, key and line.

Only what such a table can describe is accepted: one mapping of texts, lists of texts, flags,
numbers, lists of mappings ("tables"), each with a table of keys of its own, and mappings of any
keys to plain values ("values").
Aliases are refused, because a few lines of them can unfold to any size.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from domainlift.errors import Malformed
from domainlift.yaml_nodes import line_of, node_kind, number_of, shape_of, shown

if TYPE_CHECKING:
    import yaml

SIZE_LIMIT = 1_000_000
#: From how many characters on libyaml is used, where it is there: it is ten times as fast.
QUICK_FROM = 20_000
Kind = Literal["text", "texts", "flag", "tables", "number", "values"]
Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True)
class Field:
    """What a key holds, and whether a file must have it; `keys` are those of each table."""

    kind: Kind
    required: bool = False
    keys: Mapping[str, Field] | None = None


@dataclass(frozen=True)
class Node:
    """The value of one key, in the field of its kind; lines count from 1.

    Each of `values` is an entry with its line and its `value`.
    """

    line: int | None = None
    text: str = ""
    texts: tuple[str, ...] = ()
    flag: bool = False
    lines: tuple[int, ...] = ()
    tables: tuple[Mapping[str, Node], ...] = ()
    number: int | float = 0
    values: Mapping[str, Node] = field(default_factory=dict)
    value: Value = ""


def read_yaml(path: Path, schema: Mapping[str, Field]) -> dict[str, Node]:
    """Return the entries of a file, all of them keys of `schema` and of the right kind."""
    root = _compose(path, _text(path))
    if root is None:
        raise Malformed(path, "file is empty", line=1, hint=_wanted(schema))
    if shape_of(root) != "mapping":
        what = f"must hold keys with values, not {node_kind(root)}"
        raise Malformed(path, what, line=line_of(root), hint=_wanted(schema))
    return _mapping(path, root, schema, "")


def top_keys(path: Path) -> list[str]:
    """Return the names of a file's entries, in order; none where it holds no mapping."""
    root = _compose(path, _text(path))
    if root is None or shape_of(root) != "mapping":
        return []
    return [str(key.value) for key, _ in root.value]


# --- from bytes to nodes


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise Malformed(path, f"cannot be read: {error.strerror}") from error
    if len(content) > SIZE_LIMIT:
        raise Malformed(path, f"file is larger than {SIZE_LIMIT // 1000} kB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Malformed(path, "not UTF-8", line=line, hint="save the file as UTF-8") from error


def _compose(path: Path, text: str) -> yaml.Node | None:
    import yaml

    if len(text) > QUICK_FROM and yaml.__with_libyaml__ and _harmless(text):
        with suppress(yaml.YAMLError):  # the other reader says what is wrong, and says it better
            return yaml.compose(text, yaml.CSafeLoader)

    class Loader(yaml.SafeLoader):
        # An alias is refused where it is met: to look for aliases first would take a second
        # pass, whose time grows with the square of the depth of brackets.
        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                event = self.current_event
                what, hint = f"alias `*{event.anchor}` is not allowed", "write the value out"
                line = event.start_mark.line + 1
                raise Malformed(path, what, line=line, hint=f"{hint}, or put it in quotes")
            return super().compose_node(parent, index)

    try:
        return yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark if error.problem_mark is not None else error.context_mark
        line = mark.line + 1 if mark is not None else None
        what = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "a text that holds `: ` or begins with a sign needs quotes"
        raise Malformed(path, f"not YAML: {what}", line=line, hint=hint) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"not YAML: character U+{ord(text[error.position]):04X} is not allowed"
        raise Malformed(path, what, line=line) from error
    except RecursionError as error:
        raise Malformed(path, "nested too deeply") from error


def _harmless(text: str) -> bool:
    """Whether a text can hold no alias, and no nesting so deep that libyaml's stack ends."""
    flat = text.count("[") + text.count("{") < 1000
    return "*" not in text and flat and max(map(len, text.split("\n"))) < 10_000


# --- from nodes to entries


def _mapping(
    path: Path, node: yaml.Node, schema: Mapping[str, Field], within: str
) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    for key, value in node.value:
        name = _key_name(path, key, schema, entries)
        entries[name] = _entry(_Place(path, name), schema[name], value, line_of(key))
    for name, wanted in schema.items():
        if wanted.required and name not in entries:
            what = f"key `{name}` is missing{within}"
            hint = f"add `{name}: {_EXAMPLES[wanted.kind]}`"
            raise Malformed(path, what, line=line_of(node), hint=hint)
    return entries


@dataclass(frozen=True)
class _Place:
    """Where a value stands, for messages about it."""

    path: Path
    key: str

    def error(self, what: str, line: int, hint: str | None = None) -> Malformed:
        return Malformed(self.path, f"`{self.key}` {what}", line=line, hint=hint)


def _key_name(
    path: Path, node: yaml.Node, schema: Mapping[str, Field] | None, seen: Mapping[str, Node]
) -> str:
    if shape_of(node) != "scalar":
        raise Malformed(path, f"a key must be a text, not {node_kind(node)}", line=line_of(node))
    name = str(node.value)
    if schema is not None and name not in schema:
        near = get_close_matches(name, schema, n=1)
        hint = f"did you mean `{near[0]}`?" if near else _wanted(schema)
        raise Malformed(path, f"unknown key `{shown(name)}`", line=line_of(node), hint=hint)
    if name in seen:
        what = f"key `{name}` stands twice, first in line {seen[name].line}"
        raise Malformed(path, what, line=line_of(node))
    return name


def _entry(place: _Place, key: Field, node: yaml.Node, line: int) -> Node:
    if key.kind == "flag":
        return Node(line, flag=_read_flag(place, node))
    if key.kind == "number":
        return Node(line, number=_read_number(place, node))
    if key.kind == "values":
        return Node(line, values=_read_values(place, node))
    if key.keys is not None:
        return Node(line, tables=_read_tables(place, node, key.keys))
    if key.kind == "text":
        return Node(line, text=_read_text(place, node, "must be a text, not", "is empty"))
    texts = _read_texts(place, node)
    return Node(line, texts=texts, lines=tuple(line_of(item) for item in node.value))


def _read_flag(place: _Place, node: yaml.Node) -> bool:
    import yaml

    value = None
    if node.tag == "tag:yaml.org,2002:bool":
        value = yaml.SafeLoader.bool_values.get(str(node.value).lower())
    if value is None:
        raise place.error(f"must be true or false, not {node_kind(node)}", line_of(node))
    return bool(value)


def _read_number(place: _Place, node: yaml.Node) -> int | float:
    number = number_of(node)
    if number is None or not math.isfinite(number):
        found = node_kind(node)
        given = f"`{shown(node.value)}`" if found == "a number" else found
        raise place.error(f"must be a finite number, not {given}", line_of(node))
    return number


def _read_values(place: _Place, node: yaml.Node) -> dict[str, Node]:
    if shape_of(node) != "mapping":
        hint = f"write `{place.key}: {_EXAMPLES['values']}`"
        raise place.error(f"must be keys with values, not {node_kind(node)}", line_of(node), hint)
    entries: dict[str, Node] = {}
    for key, value in node.value:
        name = _key_name(place.path, key, None, entries)
        entries[name] = Node(line_of(key), value=_read_value(_Place(place.path, name), value))
    return entries


def _read_value(place: _Place, node: yaml.Node) -> Value:
    if shape_of(node) == "sequence":
        return _read_texts(place, node)
    if node.tag == "tag:yaml.org,2002:bool":
        return _read_flag(place, node)
    if number_of(node) is not None or node_kind(node) == "a number":
        return _read_number(place, node)
    return _read_text(place, node, "must be a text, a number, a flag or a list, not", "is empty")


def _read_texts(place: _Place, node: yaml.Node) -> tuple[str, ...]:
    if shape_of(node) != "sequence":
        hint = f"write `{place.key}: {_EXAMPLES['texts']}`"
        raise place.error(f"must be a list of texts, not {node_kind(node)}", line_of(node), hint)
    texts: dict[str, None] = {}  # in order, and quick to look up in a long list
    for number, item in enumerate(node.value, 1):
        complaint = f"must be a list of texts, but item {number} is"
        text = _read_text(place, item, complaint, "holds an empty text")
        if text in texts:
            raise place.error(f"holds `{text}` twice", line_of(item))
        texts[text] = None
    return tuple(texts)


def _read_tables(
    place: _Place, node: yaml.Node, keys: Mapping[str, Field]
) -> tuple[Mapping[str, Node], ...]:
    hint = f"write `{place.key}: {_EXAMPLES['tables']}` with the keys of each; " + _wanted(keys)
    if shape_of(node) != "sequence":
        what = f"must be a list of keys with values, not {node_kind(node)}"
        raise place.error(what, line_of(node), hint)
    for number, item in enumerate(node.value, 1):
        if shape_of(item) != "mapping":
            what = f"must be a list of keys with values, but item {number} is {node_kind(item)}"
            raise place.error(what, line_of(item), hint)
    return tuple(
        _mapping(place.path, item, keys, f" in item {number} of `{place.key}`")
        for number, item in enumerate(node.value, 1)
    )


def _read_text(place: _Place, node: yaml.Node, complaint: str, empty: str) -> str:
    """Return the text with its white space evened out: folded and plain texts read the same."""
    line = line_of(node)
    scalar = shape_of(node) == "scalar"
    if not scalar or node.tag != "tag:yaml.org,2002:str":
        hint = "put it in quotes" if scalar and node.value else None
        raise place.error(f"{complaint} {node_kind(node)}", line, hint)
    text = " ".join(str(node.value).split())
    if not text:
        raise place.error(empty, line)
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise place.error("holds a control character", line)
    return text


_EXAMPLES: Mapping[Kind, str] = {
    "text": "…",
    "texts": "[…, …]",
    "flag": "true",
    "tables": "[{…}, {…}]",
    "number": "1.0",
    "values": "{…: …, …: …}",
}


def _wanted(schema: Mapping[str, Field]) -> str:
    required = ", ".join(f"`{name}`" for name, key in schema.items() if key.required)
    others = ", ".join(f"`{name}`" for name, key in schema.items() if not key.required)
    return f"it must have {required}" + (f" and may have {others}" if others else "")
