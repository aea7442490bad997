"""DPO: TRL's trainer as a stage uses it, beside the least that a packed loop of this house costs.

python -m perf.preference
python -m perf.preference --layers 24 --batch 16 --pairs short --threads 1

A pair has a prompt of P tokens and sides of C and R. TRL reads the prompt before each side, pads
both to the longest of its batch, and does so for the policy and again for the reference: at least
2P + C + R tokens twice. A packed loop would read P + C + R, since both sides can share their
prompt, and nothing is padded. There is no such loop here. What is timed in its place is a lower
bound of its cost: the forward and backward of this project's own training over [prompt | chosen |
rejected] as one row, and one pass without the adapter for the reference's log-probabilities. It
leaves out the loss of DPO, the optimiser, and the mask that keeps the sides apart; that the one
side also attends to the other costs next to nothing. So the ratio is an upper bound of the gain.

Random weights of Qwen2.5-0.5B's shape with the real vocabulary, in float32, autocast to bfloat16 on
both sides where a stage is, each in a process of its own; the fastest step after the first counts,
and of processor time, which other programs disturb less, the least of a step, by all threads.
`long` has lengths as UltraFeedback has them, `short` those of options. Memory is the most that a
process holds, libraries and model included; what training adds is its distance from what was held
once the model was made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoTokenizer

from engines.registry import tiny_folder
from finetune.adapters.methods import attach
from finetune.data.rows import Row
from finetune.stages.stage_settings import StageSettings
from finetune.stages.trainer_run import step_clock
from finetune.stages.trainers import StageJob, open_trainer, pair_tokens
from finetune.training.attention import rows_apart
from finetune.training.gradients import GradientWorker
from finetune.training.loss import answer_losses
from finetune.training.packing import PackLimits, best_fit, most_trained, pack_rows
from finetune.training.precision import autocasts
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded
from perf import shapes
from perf.commands import heading, line, measure_apart
from perf.training import forget_peak, held

#: Least and most tokens of prompts and of each side.
LENGTHS = {"long": ((40, 300), (100, 400)), "short": ((20, 60), (2, 12))}
_SEED, _GIB = 5, 2**30


def main() -> None:
    """Run each side in a process of its own, and print the table."""
    settings = _arguments()
    if settings.side is not None:
        print(json.dumps((_bound if settings.side == "bound" else _trl)(settings)))
        return
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    titles = ("tokens of a pair", "pairs/s", "CPU s per pair", "peak, GiB", "training adds, GiB")
    print(heading("pairs", "threads", "", *titles))
    for kind in settings.pairs:
        for threads in settings.threads:
            _rows_of_table(settings, kind, threads)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="TRL's DPO against a bound")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="pairs per step")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", nargs="+", choices=sorted(LENGTHS), default=sorted(LENGTHS))
    parser.add_argument("--side", choices=("trl", "bound"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _rows_of_table(settings: Any, kind: str, threads: int) -> None:
    words = ["--layers", str(settings.layers), "--steps", str(settings.steps)]
    words += ["--batch", str(settings.batch), "--pairs", kind, "--threads", str(threads)]
    found = {
        side: measure_apart("perf.preference", *words, "--side", side) for side in ("trl", "bound")
    }
    pairs = settings.batch
    for side, name in (("trl", "TRL's DPO"), ("bound", "bound of a packed loop")):
        own = found[side]
        memory = f"{own['peak'] / _GIB:.2f}", f"{own['added'] / _GIB:.2f}"
        speed = f"{pairs / min(own['seconds'][1:]):.3f}"
        busy = f"{min(own['busy'][1:]) / pairs:.2f}"
        print(line(kind, threads, name, f"{own['tokens']:.0f}", speed, busy, *memory), flush=True)
    trl, bound = found["trl"], found["bound"]
    ratios = [
        bound["tokens"] / trl["tokens"],
        min(trl["seconds"][1:]) / min(bound["seconds"][1:]),
        min(bound["busy"][1:]) / min(trl["busy"][1:]),
        bound["peak"] / trl["peak"],
        bound["added"] / trl["added"],
    ]
    print(line(kind, threads, "bound / TRL", *(f"{each:.2f}" for each in ratios)), flush=True)


def _begin(settings: Any) -> tuple[Any, Any, list[dict[str, list[int]]], Any, list[Row]]:
    """Adapter, tokenizer, pairs as tokens and as rows, settings; from here on memory counts."""
    torch.set_num_threads(settings.threads[0])
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_folder()))
    training = TrainingArguments(max_tokens=4096, end=True, anchor=False, eval_every=0)
    rows = _pairs(settings, tokenizer)
    model = shapes.model("0.5b", layers=settings.layers, device="cpu", dtype="float32")
    forget_peak("cpu")
    settings.held = held("cpu")
    pairs = pair_tokens(rows, tokenizer, training)
    return attach(model, training), tokenizer, pairs, training, rows


def _pairs(settings: Any, tokenizer: Any) -> list[Row]:
    """Pairs of words that are one token each."""
    prompt, side = LENGTHS[settings.pairs[0]]
    words = sorted(w[1:] for w in tokenizer.get_vocab() if w[0] == "Ġ" and w[1:].isalpha())
    draw = random.Random(_SEED)

    def text(least: int, most: int) -> str:
        return "".join(f" {word}" for word in draw.choices(words, k=draw.randint(least, most)))

    texts = (
        (text(*prompt), text(*side), text(*side)) for _ in range(settings.batch * settings.steps)
    )
    return [Row(asked, better, "", rejected=worse) for asked, better, worse in texts]


def _trl(settings: Any) -> dict[str, Any]:
    """Train as the stage `dpo` does."""
    live, tokenizer, pairs, training, rows = _begin(settings)
    stage = StageSettings(steps=settings.steps, batch=settings.batch, learning_rate=1e-5)
    with TemporaryDirectory() as folder:
        trainer = open_trainer(
            StageJob("dpo", rows, stage, training, Path(folder)), live, tokenizer, None
        )
        spent, busy = step_clock(trainer), step_clock(trainer, clock=time.process_time)
        trainer.train()
    read = [2 * len(pair["prompt_ids"]) + _sides(pair) for pair in pairs]
    return _found(settings, spent, busy, read)


def _bound(settings: Any) -> dict[str, Any]:
    """Forward and backward of packed rows, and a pass without the adapter."""
    live, _, pairs, training, rows = _begin(settings)
    limits = PackLimits(1024, most_trained(live.config.vocab_size))
    half = autocasts(live.config, training, torch.float32, "cpu")
    worker = GradientWorker(live, training, limits, recomputes=False, half=half)
    encoded = [
        Encoded(
            (*pair["prompt_ids"], *pair["chosen_ids"], *pair["rejected_ids"]),
            len(pair["prompt_ids"]),
            row,
        )
        for pair, row in zip(pairs, rows, strict=True)
    ]
    spent, busy = [], []
    for start in range(0, len(encoded), settings.batch):
        own = encoded[start : start + settings.batch]
        begun, before = time.perf_counter(), time.process_time()
        worker.gradients(own, sum(each.trained for each in own))
        cast = torch.autocast("cpu", torch.bfloat16, enabled=half)
        with rows_apart(live), torch.no_grad(), live.disable_adapter(), cast:
            for few in best_fit(own, limits):
                pack = pack_rows(few)
                kept = {"logits_to_keep": pack.logit_positions, **pack.extra}
                told = live(input_ids=pack.ids, use_cache=False, **kept)
                answer_losses(told.logits.flatten(0, -2), pack.targets)
        spent.append(time.perf_counter() - begun)
        busy.append(time.process_time() - before)
    read = [len(pair["prompt_ids"]) + _sides(pair) for pair in pairs]
    return _found(settings, spent, busy, read)


def _sides(pair: dict[str, list[int]]) -> int:
    return len(pair["chosen_ids"]) + len(pair["rejected_ids"])


def _found(settings: Any, spent: list[float], busy: list[float], read: list[int]) -> dict[str, Any]:
    most, tokens = held("cpu", most=True), sum(read) / len(read)
    memory = {"peak": most, "added": most - settings.held}
    return {"seconds": spent, "busy": busy, "tokens": tokens, **memory}


if __name__ == "__main__":
    main()
