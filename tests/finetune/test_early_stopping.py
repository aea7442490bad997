from __future__ import annotations

import pytest

from finetune.training.early_stopping import EarlyStopping, ValidationResult

FALL = "history"


def validated(*seen: float | str, patience: int = 2) -> EarlyStopping:
    """The state after validations at steps 10, 20, …; a text is a regressed domain."""
    state = EarlyStopping()
    for index, each in enumerate(seen, 1):
        fallen = (each,) if isinstance(each, str) else ()
        accuracy = 1.0 if isinstance(each, str) else each
        state = state.update(10 * index, ValidationResult(accuracy, fallen), patience)
    return state


@pytest.mark.parametrize(
    ("seen", "patience", "best", "best_step", "stopped"),
    [
        ((), 2, None, 0, ""),
        ((0.5,), 2, 0.5, 10, ""),
        ((0.5, 0.6, 0.7), 2, 0.7, 30, ""),
        ((0.5, 0.4), 2, 0.5, 10, ""),
        ((0.5, 0.4, 0.5), 2, 0.5, 10, "patience"),
        ((0.5, 0.4, 0.6, 0.5), 2, 0.6, 30, ""),
        ((0.5, 0.4, 0.6, 0.5, 0.4), 2, 0.6, 30, "patience"),
        ((0.5, 0.5), 1, 0.5, 10, "patience"),
        ((0.5, 0.4, 0.3, 0.2, 0.1), 0, 0.5, 10, ""),
        ((0.0, 0.0), 1, 0.0, 10, "patience"),
        ((0.5, FALL), 2, 0.5, 10, "fallen"),
        ((FALL,), 2, None, 0, "fallen"),
        ((0.5, 0.4, FALL), 2, 0.5, 10, "fallen"),
    ],
)
def test_what_ends_a_training_and_what_is_best(
    seen: tuple[float | str, ...],
    patience: int,
    best: float | None,
    best_step: int,
    stopped: str,
) -> None:
    found = validated(*seen, patience=patience)
    assert (found.best, found.best_step, found.stopped) == (best, best_step, stopped)
    assert found.regressed == ((FALL,) if stopped == "fallen" else ())
