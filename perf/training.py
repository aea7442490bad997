"""Training LoRA on short answers: TRL's SFTTrainer with its defaults, TRL tuned, and ours.

python -m perf.training
python -m perf.training --layers 24 --steps 4
python -m perf.training --device cuda --dtype bfloat16 --shape 3b --prompt 448 504 --steps 10

Random weights of Qwen2.5's shapes with the real vocabulary, prompts of words and answers of a few
tokens. All sides take the same rows in the same order, as many to a step, with the same adapter
numbers, optimiser and learning rates, in the same precision, each in a process of its own. TRL's
defaults for prompt and completion already train on the completion alone; they pad and recompute
activations. Tuned is without recomputation, padded and padding-free, the better of the two. Only
tokens of rows count, not padding; the first step does not. Memory is the most that a process holds
once the model is made, libraries and model included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from perf import shapes
from perf.memory import forget_peak, peak

if TYPE_CHECKING:
    from finetune.base import Row
    from finetune.settings import Training

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
    results = {}
    for side in (*TRL, "ours"):
        command = [sys.executable, "-W", "ignore", "-m", "perf.training", *sys.argv[1:]]
        quiet = os.environ | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(
            [*command, "--side", side], stdout=subprocess.PIPE, text=True, env=quiet, check=True
        )
        results[side] = json.loads(done.stdout.splitlines()[-1])
        print(f"{side}: {results[side]['seconds']:.2f} s per step", file=sys.stderr)
    _table(settings, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="TRL against ours")
    parser.add_argument("--shape", choices=sorted(shapes.SHAPES), default="0.5b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=8, help="per step; TRL's default is 8")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--prompt", type=int, nargs=2, default=[60, 120], help="tokens")
    parser.add_argument("--answer", type=int, nargs=2, default=[1, 8], help="tokens")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--side", choices=(*TRL, "ours"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _training(settings: Any) -> Training:
    from finetune.settings import Training

    return Training(
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
    from finetune.base import Row

    words = sorted(w[1:] for w in tokenizer.get_vocab() if w[0] == "Ġ" and w[1:].isalpha())
    draw = random.Random(_SEED)

    def text(least: int, most: int) -> str:
        return "".join(f" {word}" for word in draw.choices(words, k=draw.randint(least, most)))

    count = settings.rows * settings.steps
    return [Row(text(*settings.prompt), text(*settings.answer), "") for _ in range(count)]


def _ours(settings: Any) -> dict[str, Any]:
    """Train as `bench train` does."""
    from finetune.outcome import Progress
    from finetune.training import train

    model, tokenizer, rows = _begin(settings)
    ends: list[float] = []

    def notify(_: Progress) -> None:
        ends.append(time.perf_counter())

    with TemporaryDirectory() as folder:
        done = train(
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
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from finetune.methods import attach, trainable
    from finetune.schedule import rate_at

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
    from transformers import AutoTokenizer

    from engines.names import tiny_folder

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder()))
    rows = _rows(settings, tokenizer)
    model = shapes.model(
        settings.shape, layers=settings.layers, device=settings.device, dtype=settings.dtype
    )
    forget_peak(settings.device)
    return model, tokenizer, rows


def _found(settings: Any, ends: list[float], losses: list[float]) -> dict[str, Any]:
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    return {"seconds": seconds, "peak": peak(settings.device), "losses": losses}


def _table(settings: Any, results: dict[str, Any]) -> None:
    tuned = min(("padded", "padding-free"), key=lambda side: results[side]["seconds"])
    other = next(side for side in ("padded", "padding-free") if side != tuned)
    tokens, bound = _work(settings)
    rate = shapes.matrix_rate(settings.device, settings.dtype)
    ours = results["ours"]
    names = {"trl": "TRL's defaults", tuned: f"TRL tuned ({tuned})", other: other, "ours": "ours"}
    print("|  | tokens/s | s per step | peak memory, GiB | last loss | share of matrix rate |")
    print("|---|---|---|---|---|---|")
    for side, name in names.items():
        found = results[side]
        each = found["seconds"]
        print(
            f"| {name} | {tokens / each:,.0f} | {each:.2f} | {found['peak'] / _GIB:.2f} "
            f"| {found['losses'][-1]:.5f} | {bound / each / rate:.0%} |"
        )
    for side in ("trl", tuned):
        speed = results[side]["seconds"] / ours["seconds"]
        print(
            f"\nours / {names[side]}: {speed:.2f} times the tokens/s, "
            f"{ours['peak'] / results[side]['peak']:.2f} of the memory, largest difference of a "
            f"step's loss {_difference(ours, results[side]):.1e}"
        )
    print(
        f"\n{tokens:,.0f} tokens per step, which need {bound / 1e12:.2f} TFLOP; a large matrix "
        f"product runs at {rate / 1e12:.2f} TFLOP/s"
    )


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    pairs = zip(ours["losses"], theirs["losses"], strict=True)
    return float(max(abs(a - b) for a, b in pairs))


def _work(settings: Any) -> tuple[float, float]:
    """Tokens, and the fewest floating-point operations, of one step after the first."""
    from transformers import AutoTokenizer

    from engines.names import tiny_folder
    from finetune.encoding import encode
    from finetune.memory import sizes
    from finetune.predict import Load, flops

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder()))
    ours = _training(settings)
    rows = _rows(settings, tokenizer)[settings.rows :]
    examples = encode(rows, tokenizer, max_tokens=ours.max_tokens, end=ours.end)
    lengths = [len(example.ids) for example in examples]
    trained = sum(example.trained for example in examples)
    load = Load(sum(lengths), trained, sum(n * n for n in lengths))
    hollow = shapes.model(
        settings.shape, layers=settings.layers, device="meta", dtype=settings.dtype
    )
    found = sizes(hollow.config, ours)
    steps = settings.steps - 1
    return load.tokens / steps, flops(found, ours, load, False) / steps


if __name__ == "__main__":
    main()
