"""Training LoRA on short answers: TRL's SFTTrainer with its defaults, TRL tuned, and ours.

python -m perf.training
python -m perf.training --layers 24 --steps 4
python -m perf.training --device cuda --dtype bfloat16 --shape 3b --prompt 448 504 --steps 10

Random weights of Qwen2.5's shapes with the real vocabulary, prompts of words and answers of a few
tokens. All sides take the same rows in the same order, as many to a step, with the same adapter
numbers, optimiser and learning rates, in the same precision, each in a process of its own. TRL's
defaults for prompt and completion already train on the completion alone; they pad and recompute
activations. Tuned is without recomputation, padded and padding-free, the better of the two. Only
tokens of rows count, not padding. Other programs slow single steps down: the fastest step after the
first counts. Memory is the most that a process holds once the model is made, libraries and model
included; what training adds is its distance from what was held then.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoTokenizer, TrainerCallback

from domainlift.process_memory import resident
from engines.registry import tiny_folder
from finetune.adapters.methods import attach, trainable
from finetune.data.rows import Row
from finetune.memory.cost_model import PassLoad, pack_flops, pass_load
from finetune.memory.estimate import model_sizes, peak_bytes
from finetune.training.schedule import rate_at
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import encode
from finetune.training.train import train_rows
from finetune.training.train_output import TrainingProgress
from perf import shapes
from perf.commands import measure_apart

TRL: dict[str, dict[str, Any]] = {
    "trl": {},
    "padded": {"gradient_checkpointing": False},
    "padding-free": {"gradient_checkpointing": False, "padding_free": True, "max_length": None},
}
_SEED = 3
_GIB = 2**30


def main() -> None:
    """Run each side in a process of its own, and print the table."""
    settings = _arguments()
    if settings.side is not None:
        print(json.dumps((_ours if settings.side == "ours" else _trl)(settings)))
        return
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    results = {}
    for side in (*TRL, "ours"):
        results[side] = measure_apart("perf.training", *sys.argv[1:], "--side", side)
        print(f"{side}: {min(results[side]['seconds']):.2f} s per step", file=sys.stderr)
    _table(settings, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="TRL against ours")
    parser.add_argument("--shape", choices=sorted(shapes.SHAPES), default="0.5b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=16, help="per step")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--prompt", type=int, nargs=2, default=[60, 120], help="tokens")
    parser.add_argument("--answer", type=int, nargs=2, default=[1, 8], help="tokens")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--side", choices=(*TRL, "ours"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _training(settings: Any) -> TrainingArguments:
    return TrainingArguments(
        rank=settings.rank,
        steps=settings.steps,
        batch=settings.rows,
        max_tokens=4096,
        end=True,
        shuffle=False,
        learning_rate=2e-4,
        eval_every=0,
        save_every=10**6,
    )


def _rows(settings: Any, tokenizer: Any) -> list[Row]:
    """Prompts and answers of words that are one token each."""
    words = sorted(w[1:] for w in tokenizer.get_vocab() if w[0] == "Ġ" and w[1:].isalpha())
    draw = random.Random(_SEED)

    def text(least: int, most: int) -> str:
        return "".join(f" {word}" for word in draw.choices(words, k=draw.randint(least, most)))

    count = settings.rows * settings.steps
    return [Row(text(*settings.prompt), text(*settings.answer), "") for _ in range(count)]


def _ours(settings: Any) -> dict[str, Any]:
    """Train as `bench train` does."""
    model, tokenizer, rows = _begin(settings)
    ends: list[float] = []

    def notify(_: TrainingProgress) -> None:
        ends.append(time.perf_counter())

    with TemporaryDirectory() as folder:
        done = train_rows(
            rows,
            model,
            tokenizer,
            _training(settings),
            checkpoint_folder=Path(folder) / "checkpoints",
            adapter_folder=Path(folder) / "adapter",
            notify=notify,
        )
    return _found(settings, ends, list(done.losses))


def _trl(settings: Any) -> dict[str, Any]:
    """Train with TRL, on our adapter's first numbers and at our learning rates."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer, rows = _begin(settings)
    ours = _training(settings)
    live = attach(model, ours)
    ends: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    class Trainer(SFTTrainer):  # type: ignore[misc]
        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            losses.append(float(loss))
            return loss

    peak_rate = float(ours.learning_rate or 0)
    optimiser = torch.optim.AdamW(
        trainable(live).values(), lr=peak_rate, weight_decay=ours.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_at(step, ours.steps or 1, ours.warm_up, peak_rate) / peak_rate
    )
    with TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=settings.rows,
            max_steps=settings.steps,
            bf16=settings.dtype == "bfloat16",
            use_cpu=settings.device == "cpu",
            train_sampling_strategy="sequential",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **{"max_length": 4096, **TRL[settings.side]},
        )
        data = Dataset.from_list([{"prompt": r.prompt, "completion": r.completion} for r in rows])
        trainer = Trainer(
            live,
            args=config,
            train_dataset=data,
            processing_class=tokenizer,
            optimizers=(optimiser, schedule),
            callbacks=[Clock()],
        )
        trainer.train()
    return _found(settings, ends, losses)


def _begin(settings: Any) -> tuple[Any, Any, list[Row]]:
    """Model, tokenizer and rows; from here on memory counts."""
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder()))
    rows = _rows(settings, tokenizer)
    model = shapes.model(
        settings.shape, layers=settings.layers, device=settings.device, dtype=settings.dtype
    )
    forget_peak(settings.device)
    settings.held = held(settings.device)
    return model, tokenizer, rows


def forget_peak(device: str) -> None:
    """Begin the most anew; without effect off Linux."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def held(device: str, most: bool = False) -> int:
    """Bytes that are held now, or the most since `forget_peak`; off Linux the most so far."""
    if device.startswith("cuda") and not most:
        return torch.cuda.memory_allocated()
    found = None if device.startswith("cuda") else resident(most=most)
    return peak_bytes(device) if found is None else found


def _found(settings: Any, ends: list[float], losses: list[float]) -> dict[str, Any]:
    most = held(settings.device, most=True)
    spent = [after - before for before, after in itertools.pairwise(ends)]
    return {"seconds": spent, "peak": most, "added": most - settings.held, "losses": losses}


def _table(settings: Any, results: dict[str, Any]) -> None:
    every, predicted = _work(settings)
    work = every[1:]
    rate = shapes.matrix_rate(settings.device, settings.dtype)
    for found in results.values():
        pairs = list(zip(work, found["seconds"], strict=True))
        found["speed"] = max(load.tokens / each for (load, _), each in pairs)
        found["share"] = max(flops / each / rate for (_, flops), each in pairs)
    tuned = max(("padded", "padding-free"), key=lambda side: float(results[side]["speed"]))
    names = {side: f"TRL, {side}" for side in TRL if side != "trl"}
    names = {"trl": "TRL's defaults", **names, "ours": "ours"}
    print("|  | tokens/s | of matrix rate | peak, GiB | training adds, GiB | last loss |")
    print("|---|---|---|---|---|---|")
    for side, name in names.items():
        found = results[side]
        print(
            f"| {name} | {found['speed']:,.0f} | {found['share']:.0%} "
            f"| {found['peak'] / _GIB:.2f} | {found['added'] / _GIB:.2f} "
            f"| {found['losses'][-1]:.5f} |"
        )
    for side in ("trl", tuned):
        print(_ratios(f"ours / {names[side]}", results["ours"], results[side]))
    tokens = sum(load.tokens for load, _ in work) / len(work)
    flops = sum(flops for _, flops in work) / len(work)
    print(
        f"\n{tokens:,.0f} tokens per step need {flops / 1e12:.2f} TFLOP; a large matrix product "
        f"runs at {rate / 1e12:.2f} TFLOP/s; predicted was that ours adds "
        f"{predicted / _GIB:.2f} GiB"
    )


def _ratios(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    speed, most, added = (ours[key] / theirs[key] for key in ("speed", "peak", "added"))
    return (
        f"| {name} | {speed:.2f} |  | {most:.2f} | {added:.2f} "
        f"| Δ at most {_difference(ours, theirs):.1e} |"
    )


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    pairs = zip(ours["losses"], theirs["losses"], strict=True)
    return float(max(abs(a - b) for a, b in pairs))


def _work(settings: Any) -> tuple[list[tuple[PassLoad, float]], float]:
    """Tokens, and the fewest operations, of each step; the predicted bytes beside the model's."""
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder()))
    ours = _training(settings)
    rows = _rows(settings, tokenizer)
    examples = encode(rows, tokenizer, max_tokens=ours.max_tokens, end=ours.end)
    hollow = shapes.model(
        settings.shape, layers=settings.layers, device="meta", dtype=settings.dtype
    )
    found = model_sizes(hollow.config, ours)
    count = settings.rows
    loads = [pass_load(examples[n : n + count]) for n in range(0, len(examples), count)]
    peak = max(found.peak(load.tokens, load.trained, False) for load in loads)
    flops = [(each, pack_flops(found, each, False)) for each in loads]
    return flops, peak - (found.weights - 4 * found.trained)


if __name__ == "__main__":
    main()
