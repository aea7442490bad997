from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finetune.data.rows import Row
from finetune.memory.estimate import model_sizes
from finetune.training import precision
from finetune.training.gradients import GradientWorker
from finetune.training.packing import PackLimits
from finetune.training.precision import autocasts
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded

FULL, HALF = torch.float32, torch.bfloat16


def shape(hidden: int) -> Any:
    text = SimpleNamespace(hidden_size=hidden)
    return SimpleNamespace(get_text_config=lambda: text)


@pytest.mark.parametrize(
    ("device", "dtype", "hidden", "settings", "native", "expected"),
    [
        ("cpu", FULL, 576, {}, True, True),
        ("cpu", FULL, 576, {}, False, False),
        ("cpu", FULL, 128, {}, True, False),  # casts would cost more than they spare
        ("cpu", FULL, 576, {"dtype": "float32"}, True, False),
        ("cpu", HALF, 576, {}, True, False),  # its weights are in bfloat16 already
        ("mps", FULL, 576, {}, True, False),
        ("cuda:0", HALF, 128, {}, False, True),
        ("cuda:0", FULL, 576, {}, True, False),
        ("cuda:0", FULL, 576, {"dtype": "bfloat16"}, True, True),
    ],
)
def test_passes_are_cast_where_that_is_faster_and_asked_for(
    device: str,
    dtype: torch.dtype,
    hidden: int,
    settings: dict[str, Any],
    native: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "native_bfloat16", lambda: native)
    assert autocasts(shape(hidden), TrainingArguments(**settings), dtype, device) is expected


def test_gradients_under_autocast_are_those_of_float32_but_for_rounding(base_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from finetune.adapters.methods import attach

    settings = TrainingArguments(rank=4, anchor=False)
    rows = [Encoded(tuple(range(3 + n, 20 + 2 * n)), 6, Row("p", " a", "law")) for n in range(5)]
    trained = sum(row.trained for row in rows)
    found = {}
    for half in (False, True):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=FULL)
        live = attach(base, settings).train()
        for name, weight in live.named_parameters():
            if "lora_B" in name:  # nought at first, and with it the gradients of A
                torch.nn.init.normal_(weight, std=0.02)
        worker = GradientWorker(live, settings, PackLimits(99, 99), recomputes=False, half=half)
        worker.gradients(rows, trained)
        grads = [w.grad.flatten() for w in live.parameters() if w.grad is not None]
        assert {grad.dtype for grad in grads} == {FULL}
        found[half] = torch.cat(grads)
    assert not torch.equal(found[True], found[False])
    assert torch.cosine_similarity(found[True], found[False], 0) > 0.99


def test_the_copies_that_autocast_keeps_are_counted(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base_folder)
    plain = model_sizes(config, TrainingArguments())
    monkeypatch.setattr(precision, "_WIDE", 1)
    monkeypatch.setattr(precision, "native_bfloat16", lambda: True)
    found = model_sizes(config, TrainingArguments())
    assert (plain.casts, found.casts) == (False, True)
    assert found.always == plain.always + 2 * plain.linear
