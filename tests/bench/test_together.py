from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.tolerance import loss_tolerance

pytest.importorskip("peft")

FEW = ("--set", "steps=4", "--set", "eval_every=2", "--set", "batch=4", "--json")
NAMES = ("biology", "history")


def same_final_loss(result: dict[str, Any]) -> Any:
    """Equal but for rounding."""
    loss = result["final_loss"]
    return pytest.approx(loss, rel=0, abs=loss_tolerance([loss], result["steps"]))


@pytest.fixture
def prepared(bench: Any) -> Any:
    assert bench("data", "prepare", *NAMES, "--own").code == 0
    return bench


def test_a_domain_in_one_pass_with_another_is_as_by_itself(prepared: Any) -> None:
    alone = prepared("train", "history", "--model", "tiny", *FEW)
    assert alone.code == 0, alone.err
    said = prepared("train", *NAMES, "--model", "tiny", *FEW, "--together")
    assert said.code == 0, said.err
    together = [json.loads(line) for line in said.out.splitlines()]
    assert [(each["adapter"], each["version"]) for each in together] == [
        ("biology", "v0001"),
        ("history", "v0002"),
    ]
    one, other = alone.json, together[1]
    assert one.keys() == other.keys()
    assert one["final_loss"] == same_final_loss(other)
    for key in ("steps", "best_step", "stopped", "validation"):
        assert one[key] == other[key]
    assert "history, step 4, validation:" in said.err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--set", "method=dora"), "`lora` or `rslora`"),
        (("--search", "2"), "`--search`"),
    ],
)
def test_what_cannot_go_together_is_one_line(bench: Any, argv: tuple[str, ...], told: str) -> None:
    said = bench("train", *NAMES, "--model", "tiny", "--together", *argv)
    assert said.code == 2, said.err
    assert told in said.err
    assert "Traceback" not in said.err


def test_a_launcher_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = bench("train", *NAMES, "--model", "tiny", "--together")
    assert said.code == 2
    assert "in one process" in said.err


def test_one_domain_twice_is_refused(prepared: Any) -> None:
    said = prepared("train", "biology", "biology", "--model", "tiny", "--together")
    assert said.code == 2
    assert "`biology` is named twice" in said.err
