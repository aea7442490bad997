"""Faults against the tolerances of tests: each is far outside of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn.functional import cross_entropy

from engines.local.loading import load_model
from tests.helpers.tolerance import (
    assert_same_weights,
    gradient_tolerance,
    logprob_tolerance,
    loss_tolerance,
)

TOKENS = torch.randint(0, 2048, (6, 9), generator=torch.Generator().manual_seed(3))
RATE = 1e-3
STEPS = 10


def logprobs(model: Any) -> list[float]:
    with torch.no_grad():
        logits = model(TOKENS[:, :-1]).logits.log_softmax(-1)
    return [float(x) for x in logits.gather(-1, TOKENS[:, 1:, None]).sum((1, 2))]


@pytest.mark.parametrize("part", ["whole", "one layer"])
def test_an_adapter_that_is_not_applied(
    base_folder: Path, random_adapter: Callable[..., Path], tmp_path: Path, part: str
) -> None:
    """In all of the model, or in one of its fourteen layers."""
    base, _ = load_model(str(base_folder), device="cpu")
    model = peft.PeftModel.from_pretrained(base, random_adapter(tmp_path, base_folder))
    right = logprobs(model)
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.Linear) and (
            part == "whole" or name.endswith("layers.1.self_attn.k_proj")
        ):
            module.scaling["default"] = 0.0
    found = logprobs(model)
    differences = [abs(a - b) for a, b in zip(found, right, strict=True)]
    assert max(differences) > 100 * logprob_tolerance(right)


def gradients(model: Any, tokens: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
    """Those of the loss per trained token, of which there are `count`."""
    model.zero_grad()
    logits = model(tokens[:, :-1]).logits.flatten(0, 1)
    (cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum") / count).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_a_row_or_a_token_that_is_left_out_of_a_gradient(base_model: tuple[Any, Any]) -> None:
    model, _ = base_model
    right = gradients(model, TOKENS, 48)
    for found in (gradients(model, TOKENS[1:], 48), gradients(model, TOKENS, 47)):
        for name, gradient in right.items():
            assert (found[name] - gradient).abs().max() > 100 * gradient_tolerance(gradient), name


def train(model: Any, *, skipped: int = -1, forgets: int = -1) -> tuple[list[float], Any]:
    """Losses and weights of a training that misses a step, or loses what Adam has seen."""
    losses = []
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(STEPS):
        rows = TOKENS[step % 3 :: 3]
        model.zero_grad()
        loss = cross_entropy(model(rows[:, :-1]).logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        losses.append(float(loss.detach()))
        if step == forgets:
            optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
        if step != skipped:
            optimiser.step()
    return losses, {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("fault", [{"skipped": STEPS // 2}, {"forgets": STEPS // 2}], ids=str)
def test_a_step_that_is_missed_and_a_state_that_is_forgotten(
    base_folder: Path, fault: dict[str, int]
) -> None:
    right, wrong = (
        train(load_model(str(base_folder), device="cpu")[0], **more) for more in ({}, fault)
    )
    furthest = max(abs(a - b) for a, b in zip(right[0], wrong[0], strict=True))
    assert furthest > 100 * loss_tolerance(right[0], STEPS)
    for name, weight in right[1].items():
        with pytest.raises(AssertionError, match=name):
            assert_same_weights(
                {name: wrong[1][name]}, {name: weight}, steps=STEPS, learning_rate=RATE
            )


def test_a_single_weight_that_misses_a_step() -> None:
    weights = torch.ones(100, 100)
    found = weights.clone()
    assert_same_weights({"w": found}, {"w": weights}, steps=1, learning_rate=RATE)
    found[3, 4] -= RATE
    with pytest.raises(AssertionError, match="w"):
        assert_same_weights({"w": found}, {"w": weights}, steps=1, learning_rate=RATE)
