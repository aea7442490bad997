from __future__ import annotations

from typing import Any

import pytest

from benchmarks.runs.store import SCHEMA, migrate_manifest, migrate_record

OLD = {
    "id": "q1",
    "treatment": "rag",
    "found": [{"id": "c1"}],
    "floored": 1,
    "rung": "keywords",
    "asked": "0a1b",
}


def test_keys_of_schema_1_are_renamed() -> None:
    assert migrate_record(OLD) == {
        "id": "q1",
        "treatment": "rag",
        "searched": True,
        "retrieved": [{"id": "c1"}],
        "n_bounded": 1,
        "decided_by": "keywords",
        "request_digest": "0a1b",
    }


def test_a_record_of_this_schema_stays_as_it_is() -> None:
    row = {"id": "q1", "treatment": "base: nothing found", "searched": False}
    assert migrate_record(row) == row


@pytest.mark.parametrize(
    ("reason", "searched"),
    [
        ("base: nothing found", True),
        ("base: nothing found, adapter law-v1", True),
        ("base: the gate is shut", True),
        ("base: no knowledge base", False),
        ("base", False),
    ],
)
def test_a_search_of_schema_1_follows_from_the_reason(reason: str, searched: bool) -> None:
    assert migrate_record({"treatment": reason})["searched"] is searched


@pytest.mark.parametrize(
    ("row", "adapter"),
    [
        ({"treatment": "rag: 2 of 3 passages fit the context", "adapter": "law-v1"}, "law-v1"),
        ({"treatment": "adapter law-v1"}, "law-v1"),
        ({"treatment": "rag, adapter law-v1"}, "law-v1"),
        ({"treatment": "base: the plan has nothing for adapter_design"}, None),
        ({}, None),
    ],
)
def test_an_adapter_that_only_the_reason_names_is_read(row: Any, adapter: str | None) -> None:
    assert migrate_record(row).get("adapter") == adapter


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("passages", "rag"),
        ("adapter", "lora"),
        ("adapter + passages", "rag+lora"),
        ("ensemble", "ensemble"),
    ],
)
def test_treatments_are_read_by_their_new_names(old: str, new: str) -> None:
    manifest = migrate_manifest({"schema": 1, "settings": {"treatment": old, "seed": 0}})
    assert manifest == {"schema": SCHEMA, "settings": {"treatment": new, "seed": 0}}
