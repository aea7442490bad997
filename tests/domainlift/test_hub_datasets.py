from __future__ import annotations

from typing import Any

import pytest

from domainlift.errors import BenchError
from domainlift.hub_datasets import hub_rows

datasets = pytest.importorskip("datasets")


def test_rows_come_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str, config: str | None, split: str) -> list[dict[str, Any]]:
        return [{"asked": [path, config, split]}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert hub_rows("org/name", "one", "test") == [{"asked": ["org/name", "one", "test"]}]


@pytest.mark.parametrize(
    ("error", "offline"),
    [(ConnectionError("no route\nto host"), True), (ValueError("unknown split\n…"), False)],
)
def test_without_a_connection_the_hub_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception, offline: bool
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(BenchError, match=r"`org/name` .* from the hub") as caught:
        hub_rows("org/name", None, "test")
    assert "\n" not in caught.value.what
    assert offline is datasets.config.HF_HUB_OFFLINE
