from __future__ import annotations

from typing import Any

import pytest

from domainlift.errors import BenchError
from domainlift.hub_datasets import _reachable, hub_rows

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
    monkeypatch.setattr("domainlift.hub_datasets._reachable", lambda: True)
    with pytest.raises(BenchError, match=r"`org/name` .* from the hub") as caught:
        hub_rows("org/name", None, "test")
    assert "\n" not in caught.value.what
    assert offline is datasets.config.HF_HUB_OFFLINE


def test_where_the_hub_does_not_answer_the_cache_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [datasets.config.HF_HUB_OFFLINE])
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    _reachable.cache_clear()
    try:
        assert hub_rows("org/name", None, "test") == [True]
    finally:
        _reachable.cache_clear()
