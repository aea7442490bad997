"""Schema of stored runs: its version, and the migration of rows that earlier versions wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
