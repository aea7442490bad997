"""Nodes of a YAML document: their kinds in words, lines, and numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from domainlift.text.display import printable

if TYPE_CHECKING:
    import yaml

# At most 30 digits: int() has a limit of its own.
_NUMBER = re.compile(r"[-+]?(?=.{1,30}$)(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_KIND_NAMES = {
    "tag:yaml.org,2002:str": "a text",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}


def node_kind(node: yaml.Node) -> str:
    """The kind of a node, in words for a message."""
    shape = shape_of(node)
    if shape != "scalar":
        return "a list" if shape == "sequence" else "keys with values"
    return _KIND_NAMES.get(node.tag, f"a value with the tag `{shown(node.tag)}`")


def shown(name: str) -> str:
    """Shorten a name for a message; escapes in a file can stand for any character."""
    return printable(name[:60])


def shape_of(node: yaml.Node) -> Literal["scalar", "sequence", "mapping"]:
    """The shape of a node."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return "mapping"
    return "sequence" if isinstance(node, yaml.SequenceNode) else "scalar"


def line_of(node: yaml.Node) -> int:
    """The line where a node begins, from 1."""
    return int(node.start_mark.line) + 1


def number_of(node: yaml.Node) -> int | float | None:
    """The number that is written without quotes; YAML 1.1 takes `1e-4` for a text, nobody else."""
    text = str(node.value) if shape_of(node) == "scalar" else ""
    if getattr(node, "style", None) not in (None, "") or not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
