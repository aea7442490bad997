"""Training several adapters: one after another with PEFT, against all in one batch.

python -m perf.joint
python -m perf.joint --model tiny --rows 4 16 --tokens 32 --steps 20

Qwen2.5-0.5B's shape with few layers and random weights, or the embedded model. Each adapter has its
own rows of random tokens, the same on both sides; only the last tokens of a row are projected, as
for short answers. Steps of both sides take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perf import shapes

_ANSWER = 8
_RATE = 1e-3


def main() -> None:
    """Train both ways for each number of adapters, and print the table."""
    parser = argparse.ArgumentParser(description="adapters trained jointly against sequentially")
    parser.add_argument("--model", choices=("0.5b", "tiny"), default="0.5b")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--adapters", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rank", type=int, default=16)
    settings = parser.parse_args()
    print(
        "| adapters | rows each | sequential, s per step | joint, s per step | ratio "
        "| largest Δ loss |"
    )
    print("|---|---|---|---|---|---|")
    for count in settings.adapters:
        for rows in settings.rows:
            apart, joint, difference = _measure(count, rows, settings)
            print(
                f"| {count} | {rows} | {apart:.3f} | {joint:.3f} | {apart / joint:.2f} "
                f"| {difference:.1e} |",
                flush=True,
            )
    print(
        f"\n{settings.steps} steps, {settings.tokens} tokens per row, rank {settings.rank}, "
        f"all linear layers, {settings.model}"
        + (f" with {settings.layers} layers" if settings.model != "tiny" else "")
    )


def _measure(count: int, rows: int, settings: Any) -> tuple[float, float, float]:
    """Seconds of the fastest step of each side, and the largest difference of any loss."""
    import torch

    generator = torch.Generator().manual_seed(1)
    shape = (settings.steps, count, rows, settings.tokens)
    batches = torch.randint(0, 2_000, shape, generator=generator)
    spent: dict[str, list[float]] = {"apart": [], "joint": []}
    largest = 0.0
    with TemporaryDirectory() as folder:
        apart, joint = _sides(Path(folder), count, settings)
        for step, batch in enumerate(batches):
            losses = {}
            # Who goes first changes from step to step.
            for side in ("apart", "joint") if step % 2 else ("joint", "apart"):
                start = time.perf_counter()
                losses[side] = (apart if side == "apart" else joint)(batch)
                spent[side].append(time.perf_counter() - start)
            pairs = zip(losses["apart"], losses["joint"], strict=True)
            largest = max([largest, *(abs(a - b) for a, b in pairs)])
    return min(spent["apart"]), min(spent["joint"]), largest


def _sides(folder: Path, count: int, settings: Any) -> tuple[_Step, _Step]:
    """One function per side that makes a step for all adapters and gives their losses."""
    import peft
    import torch

    from finetune.multi_adapter.layers import Joint, split_adapters

    config = {"r": settings.rank, "lora_alpha": 32, "target_modules": "all-linear"}
    names = [str(number) for number in range(count)]
    torch.manual_seed(2)
    joint = Joint(_model(settings), {name: peft.LoraConfig(**config) for name in names})
    split_adapters(joint, {name: folder / name for name in names})
    single = peft.PeftModel.from_pretrained(_model(settings), str(folder / "0"), adapter_name="0")
    for name in names[1:]:
        single.load_adapter(str(folder / name), adapter_name=name)
    return _apart(single, names), _joint(joint)


def _model(settings: Any) -> Any:
    if settings.model == "tiny":
        from engines.local.loading import load_model
        from engines.registry import tiny_folder

        return load_model(str(tiny_folder()), device="cpu")[0]
    return shapes.model(settings.model, layers=settings.layers, device="cpu", dtype="float32")


def _apart(model: Any, names: list[str]) -> _Step:
    import torch

    optimisers = {}
    for name in names:
        weights = [w for key, w in model.named_parameters() if f".{name}.weight" in key]
        optimisers[name] = torch.optim.AdamW(weights, lr=_RATE)

    def step(batch: Any) -> list[float]:
        found = []
        for name, rows in zip(names, batch, strict=True):
            model.set_adapter(name)
            loss = _losses(model, rows, 1)[0]
            loss.backward()
            optimisers[name].step()
            optimisers[name].zero_grad()
            found.append(float(loss.detach()))
        return found

    return step


def _joint(joint: Any) -> _Step:
    import torch

    optimiser = torch.optim.AdamW(joint.parameters(), lr=_RATE)

    def step(batch: Any) -> list[float]:
        owners = [name for name in joint.names for _ in range(batch.shape[1])]
        with joint.using(owners):
            losses = _losses(joint.model, batch.flatten(0, 1), len(joint.names))
            losses.sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        return [float(loss) for loss in losses.detach()]

    return step


def _losses(model: Any, rows: Any, adapters: int) -> Any:
    """The mean loss of each adapter's rows, over their last tokens."""
    import torch

    logits = model(rows, logits_to_keep=_ANSWER + 1, use_cache=False).logits[:, :-1]
    wanted = rows[:, -_ANSWER:]
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted.flatten(), reduction="none"
    )
    return each.view(adapters, -1).mean(1)


_Step = Callable[[Any], list[float]]

if __name__ == "__main__":
    main()
