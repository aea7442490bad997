"""5-shot MMLU: lm-eval's HF backend at its best batch size against ours, in one run.

    BENCH_DATA=FOLDER python -m perf.scoring --subjects 8 --per-subject 24

Both sides score the same prompts with the same randomly initialised model, each in a process of
its own, one after the other. The time is that of the scoring: tokenising included, loading not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from engines.local.engine import TransformersEngine
from engines.local.prefix_tree import trie_size
from engines.local.tokenization import Encoder
from finetune.memory.estimate import peak_bytes, synchronize
from perf import shapes
from perf.commands import measure_apart

SIDES = ("lm-eval", "ours")


def main() -> None:
    """Run both sides and print the table."""
    settings = _arguments()
    if settings.side is not None:
        print(json.dumps(_MEASURES[settings.side](settings)))
        return
    results = {}
    for side in SIDES:
        print(f"{side} …", file=sys.stderr)
        results[side] = measure_apart("perf.scoring", *sys.argv[1:], "--side", side)
    _table(settings, results["lm-eval"], results["ours"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="lm-eval's HF backend against ours")
    parser.add_argument("--shape", choices=shapes.SHAPES, default="0.5b")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--per-subject", type=int, help="questions of each; default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _theirs(settings: argparse.Namespace) -> dict[str, Any]:
    """Try each batch size on a tenth of the questions, then time all with the best."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    requests = shapes.requests(settings.subjects, settings.per_subject)
    model, tokens = _counted(settings)
    tokenizer = shapes.tokenizer()

    def score(batch: int, chosen: list[Any]) -> tuple[float, list[list[float]]]:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=32_768)
        instances = [
            Instance("loglikelihood", {}, (r.prompt.text, option), i)
            for i, r in enumerate(chosen)
            for option in r.options
        ]
        synchronize(settings.device)
        start = time.perf_counter()
        values = [value for value, _ in lm.loglikelihood(instances, disable_tqdm=True)]
        seconds = time.perf_counter() - start
        width = len(chosen[0].options)
        return seconds, [values[i : i + width] for i in range(0, len(values), width)]

    probe = requests[:: max(1, len(requests) // max(16, len(requests) // 10))]
    timed = {}
    for batch in settings.batches:
        try:
            timed[batch] = score(batch, probe)[0]
        except (RuntimeError, MemoryError):
            break
    best = min(timed, key=timed.__getitem__)
    tokens[0] = 0
    seconds, logprobs = score(best, requests)
    return {
        "seconds": seconds,
        "tokens": tokens[0],
        "batch": best,
        "tried": {str(batch): len(probe) and s / len(probe) for batch, s in timed.items()},
        "memory": peak_bytes(settings.device),
        "logprobs": logprobs,
    }


def _ours(settings: argparse.Namespace) -> dict[str, Any]:
    requests = shapes.requests(settings.subjects, settings.per_subject)
    model, _ = _counted(settings)
    tokenizer = shapes.tokenizer()
    engine = TransformersEngine(model, tokenizer, name=settings.shape, digest="random")
    by_task: dict[str, list[Any]] = {}
    for request in requests:
        by_task.setdefault(request.prompt.text[:80], []).append(request)
    synchronize(settings.device)
    start = time.perf_counter()
    answers = {a.id: a for group in by_task.values() for a in engine.answer(group)}
    seconds = time.perf_counter() - start
    memory = peak_bytes(settings.device)
    items = [item for group in by_task.values() for item in Encoder(tokenizer).items(group)]
    body = model.num_parameters() - model.get_input_embeddings().weight.numel()
    rate = shapes.matrix_rate(settings.device, settings.dtype)
    return {
        "seconds": seconds,
        "tokens": engine.forward_tokens,
        "bound": trie_size(items),
        "batch": engine.batch_tokens,
        "memory": memory,
        "share": 2 * body * engine.forward_tokens / seconds / rate,
        "rate": rate,
        "logprobs": [list(answers[r.id].logprobs) for r in requests],
    }


def _counted(settings: argparse.Namespace) -> tuple[Any, list[int]]:
    """The model, and a counter of the positions that go through it."""
    model = shapes.model(
        settings.shape, layers=settings.layers, device=settings.device, dtype=settings.dtype
    )
    count = [0]
    inner = model.forward

    def forward(input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        count[0] += input_ids.numel()
        return inner(input_ids, *args, **kwargs)

    model.forward = forward
    return model, count


def _table(settings: argparse.Namespace, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    n = len(ours["logprobs"])
    pairs = list(zip(theirs["logprobs"], ours["logprobs"], strict=True))
    largest = max(abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True))
    same = sum(x.index(max(x)) == y.index(max(y)) for x, y in pairs)
    layers = settings.layers or shapes.SHAPES[settings.shape]["num_hidden_layers"]
    print(
        f"Qwen2.5-{settings.shape} shape, {layers} layers, {settings.dtype} on {settings.device}; "
        f"5-shot MMLU, {settings.subjects} subjects, {n} questions\n"
    )
    print("|  | lm-eval HF | ours | ratio |\n|---|---|---|---|")
    for label, key, scale, digits in (
        ("seconds per question", "seconds", n, 4),
        ("forward tokens", "tokens", 1, 0),
        ("peak memory, GiB", "memory", 2**30, 2),
    ):
        a, b = theirs[key] / scale, ours[key] / scale
        print(f"| {label} | {a:,.{digits}f} | {b:,.{digits}f} | {a / b:.2f} |")
    print(
        f"\nbatch: lm-eval {theirs['batch']} rows (seconds per question tried: {theirs['tried']})"
    )
    print(f"forward tokens / token-trie bound: {ours['tokens'] / ours['bound']:.3f}")
    print(f"max |Δ log-probability|: {largest:.2e}; same choice: {same}/{n}")
    print(
        f"share of the device's measured matrix rate ({ours['rate'] / 1e12:.3g} TFLOP/s), "
        f"2 FLOP per body parameter and token: {ours['share']:.0%}"
    )


_MEASURES = {"lm-eval": _theirs, "ours": _ours}

if __name__ == "__main__":
    main()
