"""Reader of YAML against a schema, with errors that name file, key and line.

Only what a schema can describe is accepted: one mapping of texts, lists of texts, flags, numbers,
whole numbers, mappings ("table") and lists of mappings ("tables") with a schema of their own, and
mappings of any keys to plain values ("values") or to lists of them ("lists").
Aliases are refused, because a few lines of them can unfold to any size.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from domainlift.errors import Malformed
from domainlift.yaml_nodes import line_of, node_kind, number_of, shape_of, shown

if TYPE_CHECKING:
    import yaml

SIZE_LIMIT = 1_000_000
#: From how many characters on libyaml is used, where it is there: it is ten times as fast.
QUICK_FROM = 20_000
Kind = Literal["text", "texts", "flag", "number", "whole", "table", "tables", "values", "lists"]
Value = str | int | float | bool | tuple[str, ...]
_KINDS: Mapping[Any, Kind] = {
    **{
        Path: "text",
        str: "text",
        bool: "flag",
        int: "whole",
        float: "number",
        tuple: "texts",
        list: "texts",
    },
}


@dataclass(frozen=True)
class Field:
    """Type of the value of one key, and whether a file must have it.

    `keys` are those of each table, `choices` the texts and `least` the numbers that are allowed.
    A text that is `listed` may be a list as well, and is one with commas then.
    """

    kind: Kind
    required: bool = False
    keys: Mapping[str, Field] | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    listed: bool = False


@dataclass(frozen=True)
class Node:
    """The value of one key, in the field of its kind; lines count from 1.

    Plain values are in `value` too. Each of `values` is an entry of a table or of any keys; `items`
    are those of a list in "lists".
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
    items: tuple[Value, ...] = ()


def read_yaml(path: Path, schema: Mapping[str, Field]) -> dict[str, Node]:
    """Return the entries of a file, all of them keys of `schema` and of the right kind."""
    return parse_yaml(_text(path), path, schema)


def parse_yaml(text: str, path: Path, schema: Mapping[str, Field]) -> dict[str, Node]:
    """Return the entries of a text, which errors say to be in `path`."""
    root = _compose(path, text)
    if root is None:
        raise Malformed(path, "file is empty", line=1, hint=_wanted(schema))
    if shape_of(root) != "mapping":
        what = f"must hold keys with values, not {node_kind(root)}"
        raise Malformed(path, what, line=line_of(root), hint=_wanted(schema))
    return _mapping(path, root, schema, "")


def dump_yaml(values: Mapping[str, Any]) -> str:
    """The text of a file with these entries, in their order."""
    import yaml

    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    return text


def top_keys(path: Path) -> list[str]:
    """Return the names of a file's entries, in order; none where it holds no mapping."""
    root = _compose(path, _text(path))
    if root is None or shape_of(root) != "mapping":
        return []
    return [str(key.value) for key, _ in root.value]


def dataclass_schema(kind: type) -> dict[str, Field]:
    """The schema of a mapping that fills a dataclass; None can only be left out."""
    types = get_type_hints(kind)
    return {each.name: field_of(types[each.name]) for each in fields(kind) if each.init}


def field_of(hint: Any) -> Field:
    """The field of a value of this type; None can only be left out."""
    if get_origin(hint) in (Union, UnionType):
        return field_of(next(each for each in get_args(hint) if each is not NoneType))
    if get_origin(hint) is Literal:
        return Field("text", choices=get_args(hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Field("text", choices=tuple(hint))
    origin = get_origin(hint)
    return Field(_KINDS[hint if origin is None else origin])


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
    """File and key of a value, for messages."""

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
    match key.kind:
        case "flag":
            flag = _read_flag(place, node)
            return Node(line, flag=flag, value=flag)
        case "number" | "whole":
            number = _read_number(place, node, key)
            return Node(line, number=number, value=number)
        case "text":
            several = key.listed and shape_of(node) == "sequence"
            text = ",".join(_read_texts(place, node)) if several else _read_choice(place, node, key)
            return Node(line, text=text, value=text)
        case "texts":
            texts = _read_texts(place, node)
            lines = tuple(line_of(item) for item in node.value)
            return Node(line, texts=texts, value=texts, lines=lines)
        case "values" | "lists":
            return Node(line, values=_read_values(place, node, lists=key.kind == "lists"))
        case "table":
            _need_mapping(place, node)
            within = f" in `{place.key}`"
            return Node(line, values=_mapping(place.path, node, key.keys or {}, within))
        case "tables":
            return Node(line, tables=_read_tables(place, node, key.keys or {}))


def _read_flag(place: _Place, node: yaml.Node) -> bool:
    import yaml

    value = None
    if node.tag == "tag:yaml.org,2002:bool":
        value = yaml.SafeLoader.bool_values.get(str(node.value).lower())
    if value is None:
        raise place.error(f"must be true or false, not {node_kind(node)}", line_of(node))
    return bool(value)


def _read_number(place: _Place, node: yaml.Node, field: Field) -> int | float:
    number = number_of(node)
    is_whole = field.kind == "whole"
    fits = number is not None and (isinstance(number, int) if is_whole else math.isfinite(number))
    if number is None or not fits or (field.least is not None and number < field.least):
        wanted = "a whole number" if is_whole else "a finite number"
        if field.least is not None:
            wanted += f", {field.least:g} or more"
        kind = node_kind(node)
        given = f"`{shown(node.value)}`" if number is not None or kind == "a number" else kind
        raise place.error(f"must be {wanted}, not {given}", line_of(node))
    return number


def _read_choice(place: _Place, node: yaml.Node, field: Field) -> str:
    text = _read_text(place, node, "must be a text, not", "is empty")
    if field.choices and text not in field.choices:
        near = get_close_matches(text, field.choices, n=1)
        known = "known: " + ", ".join(f"`{each}`" for each in field.choices)
        hint = f"did you mean `{near[0]}`?" if near else known
        what = f"unknown {place.key} `{shown(text)}`"
        raise Malformed(place.path, what, line=line_of(node), hint=hint)
    return text


def _read_values(place: _Place, node: yaml.Node, *, lists: bool) -> dict[str, Node]:
    _need_mapping(place, node)
    entries: dict[str, Node] = {}
    for key, value in node.value:
        name = _key_name(place.path, key, None, entries)
        own = _Place(place.path, name)
        if not lists:
            entries[name] = Node(line_of(key), value=_read_value(own, value))
            continue
        if shape_of(value) != "sequence" or not value.value:
            raise own.error("must be a list of values", line_of(value), f"write `{name}: [1, 2]`")
        items = tuple(_read_value(own, item) for item in value.value)
        entries[name] = Node(line_of(key), items=items)
    return entries


def _need_mapping(place: _Place, node: yaml.Node) -> None:
    if shape_of(node) != "mapping":
        hint = f"write `{place.key}: {_EXAMPLES['values']}`"
        raise place.error(f"must be keys with values, not {node_kind(node)}", line_of(node), hint)


def _read_value(place: _Place, node: yaml.Node) -> Value:
    if shape_of(node) == "sequence":
        return _read_texts(place, node)
    if node.tag == "tag:yaml.org,2002:bool":
        return _read_flag(place, node)
    if number_of(node) is not None or node_kind(node) == "a number":
        return _read_number(place, node, Field("number"))
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
    "table": "{…: …, …: …}",
    "tables": "[{…}, {…}]",
    "number": "1.0",
    "whole": "1",
    "values": "{…: …, …: …}",
    "lists": "{…: [1, 2]}",
}


def _wanted(schema: Mapping[str, Field]) -> str:
    required = ", ".join(f"`{name}`" for name, key in schema.items() if key.required)
    others = ", ".join(f"`{name}`" for name, key in schema.items() if not key.required)
    told = (f"must have {required}" if required else "", f"may have {others}" if others else "")
    return f"it {' and '.join(filter(None, told))}"
