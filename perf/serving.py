"""Replies to many callers at once, with one adapter and with several, against `generate`.

    OMP_NUM_THREADS=1 python -m perf.serving --model tiny
    OMP_NUM_THREADS=1 python -m perf.serving --model smollm2 --seconds 20

Callers ask one question after another, each with a chat's system prompt before it, for some
seconds; all go through the engine's `stream`. "generate" is transformers with PEFT's adapter and
its cache, one request after another. smollm2 is asked as a GGUF file (`gguf`) and through its
dequantised weights (`transformers`). Adapters are random, of rank 16 on all linear layers. Tokens a
second are of the processor's time, which other programs disturb least; times to the first token are
of the clock.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peft
import torch

from engines.base import Message, Mode, Prompt, Request
from engines.local.loading import load_model
from engines.local.tokenization import Encoder
from engines.registry import open_engine, source, weights_name
from engines.streaming import Sampling

_SYSTEM = "You answer questions in one short sentence. Say so where you do not know. " * 3
_TOKENS = 32


def main() -> None:
    """Print a row for each engine, number of callers and number of adapters."""
    parser = argparse.ArgumentParser(description="many callers at once")
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seconds", type=float, default=6.0)
    settings = parser.parse_args()
    print(
        "| engine | callers | adapters | tokens/s of the processor | requests/s "
        "| first token p50, s | p99, s | × `generate` |"
    )
    print("|" + "---|" * 8)
    with TemporaryDirectory() as folder:
        names = [str(number) for number in range(max(settings.adapters))]
        folders = random_adapters(Path(folder), names, settings.model)
        alone = _generate(folders, settings)
        print(f"| `generate` | 1 | 1 | {alone:.1f} | | | | 1.00 |", flush=True)
        for kind in ("transformers", "gguf") if settings.model == "smollm2" else ("transformers",):
            with _engine(kind, folders, settings.model) as engine:
                for callers in settings.callers:
                    for adapters in settings.adapters:
                        row = _measure(engine, names[:adapters], callers, settings.seconds)
                        shown = " | ".join(f"{each:.2f}" for each in (*row, row[0] / alone))
                        print(f"| {kind} | {callers} | {adapters} | {shown} |", flush=True)


def _measure(
    engine: Any, names: list[str], callers: int, seconds: float
) -> tuple[float, float, float, float]:
    """Tokens a second of the processor, requests a second, and the time to the first token."""
    first: list[float] = []
    tokens = [0] * callers
    end = [0.0]

    def call(caller: int) -> None:
        for number in count(caller, callers):
            start = time.perf_counter()
            pieces = engine.stream(*_asked(number, names[number % len(names)]))
            last: Any = next(pieces)
            first.append(time.perf_counter() - start)
            for piece in pieces:
                last = piece
            tokens[caller] += last.output_tokens
            if time.perf_counter() > end[0]:
                return

    _run(call, callers)  # one request each: what is made once is made now
    first.clear()
    tokens[:] = [0] * callers
    start, spent = time.perf_counter(), time.process_time()
    end[0] = start + seconds
    _run(call, callers)
    spent, passed = time.process_time() - spent, time.perf_counter() - start
    first.sort()
    return (
        sum(tokens) / spent,
        len(first) / passed,
        first[len(first) // 2],
        first[min(len(first) - 1, len(first) * 99 // 100)],
    )


def _run(call: Any, callers: int) -> None:
    threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _asked(number: int, adapter: str) -> tuple[Any, Any]:
    question = f"What is {number} plus {number % 7}, and which town was founded in {900 + number}?"
    chat = (Message("system", _SYSTEM), Message("user", question))
    return Prompt(messages=chat, adapter=adapter), Sampling(max_tokens=_TOKENS)


def _generate(folders: dict[str, Path], settings: argparse.Namespace) -> float:
    """Tokens a second of transformers' own `generate`, one request at a time."""
    model, tokenizer = _loaded(settings.model)
    live = peft.PeftModel.from_pretrained(model, str(folders["0"])).eval()
    encoder, made = Encoder(tokenizer), 0
    start, end = time.process_time(), time.perf_counter() + settings.seconds
    for number in count():
        if time.perf_counter() > end:
            break
        (ids,) = encoder.prompts([Request("", Mode.GENERATE, _asked(number, "0")[0])])
        with torch.inference_mode():
            out = live.generate(
                input_ids=torch.tensor([ids]), max_new_tokens=_TOKENS, do_sample=False
            )
        made += out.shape[1] - len(ids)
    return made / (time.process_time() - start)


@contextmanager
def _engine(kind: str, folders: dict[str, Path], model: str) -> Iterator[Any]:
    engine: Any = open_engine(model if kind == "gguf" else weights_name(model))
    for name, folder in folders.items():
        engine.add_adapter(name, folder)
    try:
        yield engine
    finally:
        engine.close()


def _loaded(model: str) -> tuple[Any, Any]:
    return load_model(source(model), device="cpu")


def random_adapters(root: Path, names: list[str], model: str) -> dict[str, Path]:
    """Random adapters, as PEFT writes them."""
    base, _ = _loaded(model)
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    live = peft.get_peft_model(base, config)
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter, weight in live.named_parameters():
                if "lora_" in parameter:
                    weight.normal_(0, 1e-3)  # small, so that replies have one length
        live.save_pretrained(root / name)
    return {name: root / name for name in names}


if __name__ == "__main__":
    main()
