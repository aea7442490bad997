"""Questions of several adapters: in one batch, in turns, and with PEFT's `adapter_names`.

python -m perf.mixed --model tiny --questions 192
BENCH_DATA=FOLDER python -m perf.mixed --layers 2 --questions 48

Every side scores the same questions, spread evenly over the adapters; "one adapter" is all of them
with a single one. Questions of MMLU for Qwen2.5-0.5B's shape with few layers and random weights,
those of the demo for the embedded model. PEFT's rows are sorted by length and padded, a question is
one row, and of some sizes of a batch the fastest is taken. The sides take turns, and the fastest
time of each counts. Seconds are of the processor, which other programs disturb least; give it one
thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perf import shapes

_SIDES = ("one", "mixed", "turns", "peft")
_Found = dict[str, tuple[float, ...]]


def main() -> None:
    """Time all sides for each number of adapters, and print the table."""
    settings = _arguments()
    print(
        "| adapters | one adapter, s per question | mixed | in turns | `adapter_names` "
        "| mixed / one | turns / one | `adapter_names` / one | tokens mixed / one "
        "| largest Δ to PEFT, nats |"
    )
    print("|" + "---|" * 10)
    with TemporaryDirectory() as folder:
        names = [str(number) for number in range(max(settings.adapters))]
        folders = _folders(Path(folder), names, settings)
        sides = _Sides(folders, settings)
        for count in settings.adapters:
            sides.spread(names[:count])
            sides.tune()
            spent, tokens, largest = _measure(sides, settings.repeats)
            one = spent["one"]
            cells = [spent[side] / len(sides.requests) for side in _SIDES]
            ratios = [spent[side] / one for side in _SIDES[1:]]
            shown = [f"{cell:.4f}" for cell in cells] + [f"{ratio:.2f}" for ratio in ratios]
            more = [f"{tokens['mixed'] / tokens['one']:.2f}", f"{largest:.1e}"]
            print(f"| {count} | {' | '.join(shown + more)} |", flush=True)
    print(
        f"\n{settings.questions} questions, {settings.shots} shots, rank {settings.rank}, all "
        f"linear layers, float32, {settings.model}"
        + (f" with {settings.layers} layers" if settings.model != "tiny" else "")
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="several adapters in one batch")
    parser.add_argument("--model", choices=("0.5b", "tiny"), default="0.5b")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 4, 8, 16], help="with PEFT")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


class _Sides:
    """The ways of scoring, each with a model of its own with all adapters."""

    def __init__(self, folders: dict[str, Path], settings: argparse.Namespace) -> None:
        self._sizes = settings.rows
        self._rows = self._sizes[0]
        self._asked = _questions(settings)
        self.requests: list[Any] = []
        # What is put together for mixed batches must not change the others' times.
        self._engines = {side: _engine(folders, settings) for side in ("alone", "mixed")}
        self._peft = _peft(folders, settings)
        self._encoder = self._engines["alone"]._encoder

    def spread(self, names: Sequence[str]) -> None:
        """Give the questions to these adapters from now on."""
        self.requests = [
            _with(request, names[number % len(names)]) for number, request in enumerate(self._asked)
        ]

    def tune(self) -> None:
        """Choose the size of PEFT's batches."""
        taken = {}
        for size in self._sizes:
            self._rows = size
            taken[size] = _seconds(self._padded)
        self._rows = min(self._sizes, key=lambda size: taken[size])

    def run(self, side: str) -> tuple[_Found, int]:
        """Log-probabilities by question, and the computed tokens."""
        return {"one": self._one, "mixed": self._mixed, "turns": self._turns, "peft": self._padded}[
            side
        ]()

    def _one(self) -> tuple[_Found, int]:
        return _answered(self._engines["alone"], [[_with(r, "0") for r in self.requests]])

    def _mixed(self) -> tuple[_Found, int]:
        return _answered(self._engines["mixed"], [self.requests])

    def _turns(self) -> tuple[_Found, int]:
        groups: dict[str, list[Any]] = {}
        for request in self.requests:
            groups.setdefault(request.prompt.adapter, []).append(request)
        return _answered(self._engines["alone"], list(groups.values()))

    def _padded(self) -> tuple[_Found, int]:
        import torch

        items = sorted(self._encoder.items(self.requests), key=lambda item: len(item.prompt))
        found, tokens = {}, 0
        for start in range(0, len(items), self._rows):
            batch = items[start : start + self._rows]
            ids, mask = _left_padded(batch, self._peft.device)
            tokens += ids.numel()
            with torch.inference_mode():
                logits = self._peft(
                    input_ids=ids,
                    attention_mask=mask,
                    logits_to_keep=1,
                    use_cache=False,
                    adapter_names=[self.requests[item.key].prompt.adapter for item in batch],
                ).logits[:, -1]
            for item, row in zip(batch, logits.float().log_softmax(-1).tolist(), strict=True):
                found[self.requests[item.key].id] = tuple(row[o[0]] for o in item.options)
        return found, tokens


def _measure(sides: _Sides, repeats: int) -> tuple[dict[str, float], dict[str, int], float]:
    """The fastest time of each side, its tokens, and the largest difference of mixed to PEFT."""
    spent = dict.fromkeys(_SIDES, float("inf"))
    found: dict[str, _Found] = {}
    tokens = {}
    for side in _SIDES:
        found[side], tokens[side] = sides.run(side)
    for repeat in range(repeats):
        for side in _SIDES if repeat % 2 else reversed(_SIDES):
            spent[side] = min(spent[side], _seconds(partial(sides.run, side)))
    pairs = [
        (a, b)
        for key, values in found["mixed"].items()
        for a, b in zip(values, found["peft"][key], strict=True)
    ]
    return spent, tokens, max(abs(a - b) for a, b in pairs)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _answered(engine: Any, groups: Sequence[Sequence[Any]]) -> tuple[_Found, int]:
    before = engine.forward_tokens
    engine.close()
    found = {a.id: a.logprobs for group in groups for a in engine.answer(group)}
    return found, engine.forward_tokens - before


def _with(request: Any, adapter: str) -> Any:
    return replace(request, prompt=replace(request.prompt, adapter=adapter))


def _left_padded(items: Sequence[Any], device: Any) -> tuple[Any, Any]:
    import torch

    width = max(len(item.prompt) for item in items)
    ids = torch.zeros(len(items), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, item in enumerate(items):
        ids[row, width - len(item.prompt) :] = torch.tensor(item.prompt)
        mask[row, width - len(item.prompt) :] = 1
    return ids.to(device), mask.to(device)


def _questions(settings: argparse.Namespace) -> list[Any]:
    if settings.model != "tiny":
        return shapes.requests(6, -(-settings.questions // 6), settings.shots)[: settings.questions]
    from engines.base import Mode

    return shapes.builtin_requests("demo", settings.questions, Mode.LETTER)


def _folders(root: Path, names: Sequence[str], settings: argparse.Namespace) -> dict[str, Path]:
    """Random adapters, as PEFT writes them."""
    import peft
    import torch

    from finetune.multi_adapter.layers import Joint, split_adapters

    config = {"r": settings.rank, "lora_alpha": 2 * settings.rank, "target_modules": "all-linear"}
    torch.manual_seed(2)
    joint = Joint(_model(settings)[0], {name: peft.LoraConfig(**config) for name in names})
    for layer in joint.layers.values():
        torch.nn.init.normal_(layer.b, std=0.02)
    folders = {name: root / name for name in names}
    split_adapters(joint, folders)
    return folders


def _model(settings: argparse.Namespace) -> tuple[Any, Any]:
    if settings.model == "tiny":
        from engines.local.loading import load_model
        from engines.registry import tiny_folder

        return load_model(str(tiny_folder()), device="cpu")
    made = shapes.model(settings.model, layers=settings.layers, device="cpu", dtype="float32")
    return made, shapes.tokenizer()


def _engine(folders: dict[str, Path], settings: argparse.Namespace) -> Any:
    from engines.local.engine import TransformersEngine

    engine = TransformersEngine(*_model(settings), name=settings.model, digest="random")
    for name, folder in folders.items():
        engine.add_adapter(name, folder)
    return engine


def _peft(folders: dict[str, Path], settings: argparse.Namespace) -> Any:
    import peft

    model, _ = _model(settings)
    (first, folder), *others = folders.items()
    live = peft.PeftModel.from_pretrained(model, str(folder), adapter_name=first)
    for name, each in others:
        live.load_adapter(str(each), adapter_name=name)
    return live.eval()


if __name__ == "__main__":
    main()
