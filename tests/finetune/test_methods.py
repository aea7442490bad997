from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from domainlift.errors import BenchError, Misuse, NoSuch
from engines.local.loading import load_adapter, load_model
from finetune.adapters.methods import (
    attach,
    detach,
    four_bit,
    recompute,
    trainable,
    weights_fingerprint,
)
from finetune.data.rows import Row
from finetune.training.settings import METHODS, TrainingArguments
from finetune.training.train import train_rows
from tests.helpers.tolerance import loss_tolerance, rounding

ADAPTERS = [name for name in METHODS if name != "qlora"]
ROWS = [
    Row(f"Question {i}: where is it?\nAnswer:", f" in place {7 * i % 13}.", "biology")
    for i in range(8)
]
IDS = torch.arange(3, 40)[None]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits[:, -len(IDS[0]) :]
    return found


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def settings(method: str, **more: Any) -> TrainingArguments:
    plain: dict[str, Any] = {"rank": 4, "batch": 8, "steps": 8}
    # Where nothing is left to measure, a training begins sooner.
    plain |= {"micro_batch": 2048, "checkpointing": False}
    return TrainingArguments(method=method, **(plain | more))


@pytest.mark.parametrize("method", ADAPTERS)
def test_a_method_learns_saves_what_peft_loads_and_leaves_no_trace(
    base_folder: Path, base_model: tuple[Any, Any], tmp_path: Path, method: str
) -> None:
    model, tokenizer = base_model
    before, plain = weights(model), logits(model)
    live: list[torch.Tensor] = []

    def look(held: Any, step: int) -> Any:
        from finetune.training.early_stopping import ValidationResult

        live.append(logits(held))
        return ValidationResult(0.5)

    out = train_rows(
        ROWS,
        model,
        tokenizer,
        settings(method, eval_every=8),
        checkpoint_folder=tmp_path / "checkpoints",
        adapter_folder=tmp_path / "adapter",
        validate=look,
    )
    assert out.losses[-1] < out.losses[0] - 0.05
    assert same(weights(model), before)
    assert torch.equal(logits(model), plain)
    assert not any(weight.requires_grad for weight in model.parameters())
    alone = AutoModelForCausalLM.from_pretrained(base_folder)
    loaded = peft.PeftModel.from_pretrained(alone, str(tmp_path / "adapter")).eval()
    assert torch.allclose(logits(loaded), live[-1], rtol=0, atol=rounding(live[-1]))
    assert not torch.allclose(live[-1], plain, atol=1e-2)


def test_methods_follow_one_another_on_one_model(
    base_model: tuple[Any, Any],
) -> None:
    model, _ = base_model
    before = weights(model)
    for method in [*ADAPTERS, *reversed(ADAPTERS)]:
        live = attach(model, settings(method))
        assert trainable(live)
        assert detach(live) is model
    assert same(weights(model), before)


@pytest.mark.parametrize("method", ADAPTERS)
def test_only_the_method_is_trained_and_its_numbers_depend_on_the_seed(
    base_folder: Path, method: str
) -> None:
    found = []
    for seed in (0, 0, 1):
        model, _ = load_model(str(base_folder), device="cpu")
        live = attach(model, settings(method, seed=seed))
        found.append({name: weight.detach() for name, weight in trainable(live).items()})
        assert sum(w.numel() for w in found[-1].values()) < 0.4 * model.num_parameters()
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LORA", {"use_rslora": False, "use_dora": False, "lora_alpha": 8.0, "r": 4}),
    "rslora": ("LORA", {"use_rslora": True, "use_dora": False, "lora_alpha": 4.0}),
    "dora": ("LORA", {"use_rslora": False, "use_dora": True}),
}


@pytest.mark.parametrize("method", ADAPTERS)
def test_a_method_is_the_one_that_peft_knows_by_its_name(
    base_model: tuple[Any, Any], method: str
) -> None:
    config = attach(base_model[0], settings(method)).active_peft_config
    kind, wanted = KINDS[method]
    assert config.peft_type == kind
    assert {name: getattr(config, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ((), {"q", "k", "v", "o", "gate", "up", "down"}),
        (("attention",), {"q", "k", "v", "o"}),
        (("mlp", "q_proj"), {"gate", "up", "down", "q"}),
    ],
)
def test_targets(base_model: tuple[Any, Any], targets: tuple[str, ...], layers: set[str]) -> None:
    live = attach(base_model[0], settings("lora", targets=targets))
    found = {name.split("_proj")[0].rsplit(".", 1)[-1] for name in trainable(live)}
    assert found == layers


def test_a_target_that_is_not_there_is_named(base_model: tuple[Any, Any]) -> None:
    with pytest.raises(NoSuch, match="no linear layer `q_prj`") as caught:
        attach(base_model[0], settings("lora", targets=("q_prj",)))
    assert "`q_proj`" in str(caught.value.hint)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is there")
def test_four_bits_without_their_library_are_refused_in_one_line(
    base_folder: Path, base_model: tuple[Any, Any]
) -> None:
    with pytest.raises(BenchError, match="4-bit weights needs bitsandbytes") as caught:
        four_bit(str(base_folder))
    assert "method: lora" in str(caught.value.hint)
    with pytest.raises(Misuse, match="qlora needs the base model in 4 bits"):
        attach(base_model[0], settings("qlora"))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_activations_computed_again_change_nothing(
    base_folder: Path, tmp_path: Path, method: str
) -> None:
    losses = []
    for again in (False, True):
        model, tokenizer = load_model(str(base_folder), device="cpu")
        out = train_rows(
            ROWS,
            model,
            tokenizer,
            settings(method, steps=2, checkpointing=again),
            checkpoint_folder=tmp_path / str(again) / "checkpoints",
            adapter_folder=tmp_path / str(again) / "adapter",
        )
        assert out.checkpointing is again
        assert not model.is_gradient_checkpointing
        losses.append(out.losses)
    assert losses[0] == pytest.approx(losses[1], rel=0, abs=loss_tolerance(losses[1], 2))


def test_a_model_that_cannot_compute_again_is_given_back(
    base_model: tuple[Any, Any], tmp_path: Path
) -> None:
    model, tokenizer = base_model
    before = weights(model)
    type(model).supports_gradient_checkpointing = False
    try:
        with pytest.raises(Misuse, match="Qwen2ForCausalLM cannot compute activations again"):
            train_rows(
                ROWS,
                model,
                tokenizer,
                settings("lora", checkpointing=True),
                checkpoint_folder=tmp_path / "checkpoints",
                adapter_folder=tmp_path / "adapter",
            )
    finally:
        del type(model).supports_gradient_checkpointing
    assert same(weights(model), before)
    recompute(model, on=False)


def test_a_base_is_known_by_its_numbers(
    random_base: Callable[..., Path], base_folder: Path, tmp_path: Path
) -> None:
    other = random_base(tmp_path / "other", seed=1)
    found = [
        weights_fingerprint(load_model(str(f), device="cpu")[0])
        for f in (base_folder, base_folder, other)
    ]
    assert found[0] == found[1] != found[2]


def test_a_model_in_bfloat16_is_trained_in_float32(base_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(base_folder), device="cpu", dtype="bfloat16")
    before = weights(model)
    out = train_rows(
        ROWS,
        model,
        tokenizer,
        settings("lora"),
        checkpoint_folder=tmp_path / "checkpoints",
        adapter_folder=tmp_path / "adapter",
    )
    assert out.losses[-1] < out.losses[0] - 0.05
    assert model.dtype == torch.bfloat16
    assert same(weights(model), before)


def test_float16_is_refused_where_the_base_would_work_in_it(base_folder: Path) -> None:
    model = load_model(str(base_folder), device="cpu", dtype="float16")[0]
    with pytest.raises(Misuse, match="float16") as error:
        attach(model, settings("lora"))
    assert "dtype: bfloat16" in error.value.hint
    assert attach(model, settings("lora", dtype="bfloat16")).dtype == torch.bfloat16


def test_loading_and_training_an_adapter_warn_of_nothing(
    base_folder: Path, random_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = random_adapter(tmp_path / "adapter", base_folder, seed=1, r=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        attach(load_model(str(base_folder), device="cpu")[0], settings("lora"))
        load_adapter(load_model(str(base_folder), device="cpu")[0], None, "a", folder)
