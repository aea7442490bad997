from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.tensor import DTensor

from domainlift.errors import BenchError, Misuse
from engines.local.loading import load_model
from finetune.adapters.methods import attach
from finetune.data.mixing import REPLAY
from finetune.data.rows import Row
from finetune.distributed.fsdp import fsdp_requested, layers_of, shard_model
from finetune.distributed.process_group import ProcessGroup, join_group, own_device
from finetune.distributed.rank_zero import run_on_rank_zero
from finetune.training.early_stopping import ValidationResult
from finetune.training.gradients import GradientWorker
from finetune.training.packing import PackLimits
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded, encode
from finetune.training.train import train_rows
from tests.helpers.tolerance import assert_same_weights, loss_tolerance

Launch = Callable[..., subprocess.CompletedProcess[str]]
#: Six rows, then one: processes have different numbers of rows, and one of them has none. One row
#: is known already, so that one process alone has something to ask the base.
ROWS = [
    Row(
        f"Question {i}: where{' and where' * (i % 4)} is it?\nAnswer:",
        f" at {7 * i % 13}.",
        "b",
        kind=REPLAY if i == 3 else "",
    )
    for i in range(7)
]
PLAIN: dict[str, Any] = {
    "rank": 2,
    "batch": 6,
    "steps": 10,
    "save_every": 4,
    "eval_every": 2,
    "patience": 2,
    "learning_rate": 1e-3,
    "micro_batch": 60,
    "checkpointing": False,
}
#: The best is the second; the fourth ends it.
SEEN = (0.5, 0.6, 0.6, 0.5)
WHOLE = "lora, each with the whole model"
METHODS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "lora": {},
    "recomputed": {"checkpointing": True},
    "rslora": {"method": "rslora"},
    "lora in 16 bits": {"dtype": "bfloat16"},
}


def train_once(base: str, folder: Path, name: str = "lora", fails: int = 0) -> dict[str, Any]:
    """Train as one of the processes, and write down what came out.

    Validation asks the model, differently often; that of step `fails` finds something wrong.
    """
    model, tokenizer = load_model(base, device="cpu")
    settings = TrainingArguments(**{**PLAIN, **METHODS[name]})
    shares = fsdp_requested(settings.method) and name != WHOLE
    if shares:
        shard_model(model, model.device, join_group(model.device), settings)
    asked: list[int] = []
    told: list[int] = []
    rank = os.environ.get("RANK", "0")

    def validate(live: Any, step: int) -> ValidationResult:
        for length in range(1, step):
            live(input_ids=torch.ones(1, length, dtype=torch.long))
        asked.append(step)
        if step == fails:
            raise BenchError("the scorer is wrong")
        return ValidationResult(SEEN[step // 2 - 1])

    out = train_rows(
        ROWS,
        model,
        tokenizer,
        settings,
        checkpoint_folder=folder / name / "checkpoints",
        adapter_folder=folder / name / "adapter",
        validate=validate if rank == "0" or not shares else None,
        notify=lambda progress: told.append(progress.step),
    )
    found = {
        "losses": out.losses,
        "stopped": out.stopped,
        "tokens": out.tokens,
        "told": told,
        "asked": asked,
        "held": sum(shard(weight).numel() for weight in model.parameters()),
    }
    (folder / name / f"out-{rank}.json").write_text(json.dumps(found))
    return json.loads(json.dumps(found))


def shard(weight: torch.Tensor) -> torch.Tensor:
    """This process's part."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def results(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((folder / name / f"out-{rank}.json").read_text()) for rank in (0, 1)]


def saved_weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(next((folder / "adapter").glob("*model.safetensors")))


def assert_same_training(found: Path, wanted: Path, losses: Sequence[float]) -> None:
    assert_same_weights(
        saved_weights(found),
        saved_weights(wanted),
        steps=len(losses),
        learning_rate=PLAIN["learning_rate"],
    )


def same_losses(losses: Sequence[float], dtype: str = "float32") -> Any:
    return pytest.approx(losses, rel=0, abs=loss_tolerance(losses, len(losses), dtype))


def test_two_processes_do_what_one_does(
    base_folder: Path, tmp_path: Path, two_processes: Launch
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    model, _ = load_model(str(base_folder), device="cpu")
    every = model.num_parameters()
    layers = sum(weight.numel() for weight in model.model.layers.parameters())
    for name in ("lora", "rslora"):  # what one began, several go on with
        with pytest.raises(BenchError, match="the scorer is wrong"):
            train_once(str(base_folder), both, name, fails=6)
    done = two_processes(
        __file__, base_folder, both, ";".join(METHODS), "0", ACCELERATE_USE_FSDP="true"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in METHODS:
        single = train_once(str(base_folder), alone, name)
        first, second = results(both, name)
        for key in ("losses", "stopped", "tokens", "held"):
            assert first[key] == second[key], (name, key)
        exact = not name.endswith("16 bits")
        dtype = "float32" if exact else "bfloat16"
        assert first["losses"] == same_losses(single["losses"], dtype), name
        assert first["stopped"] == single["stopped"] == "patience"
        assert first["tokens"] == single["tokens"]
        # The first one alone validates and tells.
        assert first["asked"][-1] == first["told"][-1] == single["asked"][-1] == 8
        assert second["asked"] == second["told"] == []
        if exact:
            assert_same_training(both / name, alone / name, single["losses"])
        # Who shares it out has half of the layers, and all of what stands outside them.
        assert first["held"] == every - (name != WHOLE) * layers // 2


def test_what_processes_began_with_parts_one_goes_on_with_alone(
    base_folder: Path, tmp_path: Path, two_processes: Launch
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    single = train_once(str(base_folder), alone, "lora")
    done = two_processes(__file__, base_folder, both, "lora", "6", ACCELERATE_USE_FSDP="true")
    assert done.returncode != 0
    assert "the scorer is wrong" in done.stderr
    assert "the first process has given up" in done.stderr
    went_on = train_once(str(base_folder), both, "lora")
    assert went_on["told"][0] == 5
    assert went_on["losses"] == same_losses(single["losses"])
    assert_same_training(both / "lora", alone / "lora", single["losses"])


@pytest.mark.parametrize("kind", ["Qwen2", "Mamba"])
def test_layers_do_not_stand_in_one_another(kind: str) -> None:
    """Mamba names its blocks, and the mixers in them."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, intermediate_size=64
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    found = layers_of(model)
    assert found == list(model.base_model.layers)


def test_memory_that_runs_out_where_others_wait_ends_it(
    base_model: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = base_model
    settings = TrainingArguments(**PLAIN)
    live = attach(model, settings)
    monkeypatch.setattr(ProcessGroup, "all_reduce_max", lambda self, number, device: number)
    worker = GradientWorker(
        live, settings, PackLimits(60, 99), recomputes=False, half=False, in_step=ProcessGroup(0, 2)
    )

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    live.register_forward_hook(full)
    examples = encode(ROWS, tokenizer, max_tokens=100, end=False)
    with pytest.raises(BenchError, match="memory does not suffice for 60 tokens at once") as caught:
        worker.gradients(examples, 10)
    assert "--set micro_batch=" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("size", "asked", "method", "shared"),
    [
        ("2", "true", "lora", True),
        ("2", "True", "rslora", True),
        ("2", "false", "dora", False),
        ("2", "", "lora", False),
        ("1", "true", "lora", False),
    ],
)
def test_the_launcher_says_whether_the_model_is_shared_out(
    monkeypatch: pytest.MonkeyPatch, size: str, asked: str, method: str, shared: bool
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", asked)
    assert fsdp_requested(method) is shared


@pytest.mark.parametrize("method", ["dora", "qlora"])
def test_methods_that_need_the_whole_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(Misuse, match=f"`{method}` does not go with `--use_fsdp`"):
        fsdp_requested(method)


LENGTHS = st.lists(st.integers(2, 60), max_size=40)


@given(LENGTHS, st.integers(1, 6))
def test_shares_hold_every_row_once_and_are_level(lengths: list[int], size: int) -> None:
    examples = [Encoded(tuple(range(n)), 1, Row(str(i), "", "b")) for i, n in enumerate(lengths)]
    shares = [ProcessGroup(rank, size).share(examples) for rank in range(size)]
    assert sorted(e.row.prompt for share in shares for e in share) == sorted(
        e.row.prompt for e in examples
    )
    loads = [sum(len(e.ids) for e in share) for share in shares]
    assert max(loads) - min(loads) <= max(lengths, default=0)


def test_alone_nothing_is_asked_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    found = join_group(torch.device("cpu"))
    assert found == ProcessGroup(0, 1)
    assert found.is_main
    assert found.all_reduce_max(3, torch.device("cpu")) == 3
    assert found.broadcast("ready", torch.device("cpu")) == "ready"
    assert run_on_rank_zero(found, None, lambda: "ready") == "ready"
    assert found.all_reduce_sum([torch.ones(1)], 2.5) == 2.5


def test_others_that_are_not_there_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BenchError, match="another process of this training") as caught:
        join_group(torch.device("cpu"))
    assert "\n" not in caught.value.what


@pytest.mark.parametrize(
    ("size", "there", "wanted", "device"),
    [
        ("4", True, "auto", "cuda:3"),
        ("4", True, "cuda", "cuda:3"),
        ("4", True, "cpu", "cpu"),
        ("4", False, "auto", "auto"),
        ("1", True, "auto", "auto"),
    ],
)
def test_under_a_launcher_each_process_has_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, size: str, there: bool, wanted: str, device: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert own_device(wanted) == device


if __name__ == "__main__":
    for each in sys.argv[3].split(";"):
        train_once(sys.argv[1], Path(sys.argv[2]), each, int(sys.argv[4]))
