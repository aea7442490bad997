"""Cost model: peak memory and time of a training, before it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from finetune.distributed.process_group import ProcessGroup
from finetune.memory.estimate import Sizes, dummy_rows, model_sizes, plan_memory, synchronize
from finetune.training.attention import sees_all
from finetune.training.packing import PackLimits, best_fit
from finetune.training.schedule import batch_indices
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded

#: What allocators hold beyond what is asked of them.
_SLACK = 1.02
#: Operations of one layer with an adapter, forward and backward, that cost time however small.
_CALLS = 400
#: How often each byte that is kept passes between memory and processor: written and read, and the
#: same for its gradient, in the forward pass and the backward one.
_PASSES = 6
#: The optimiser's share: weight, gradient and two moments read, three of them written.
_ADAM = 7 * 4
_STEPS_TRIED = 64


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of a training.

    `tokens` counts all positions that will go through the model in one process. `peak_bytes` is the
    memory for model and training, without that of Python and its libraries.
    """

    trainable: int
    tokens: int
    peak_bytes: int
    seconds: float
    steps: int
    micro_batch: int
    checkpointing: bool


@dataclass(frozen=True)
class Rates:
    """Speed of a device: floating-point operations and bytes per second, seconds per call."""

    flops: float
    traffic: float
    call: float


@dataclass(frozen=True)
class PassLoad:
    """Load of one pack: positions, positions with logits, sum of the rows' squared lengths."""

    tokens: int
    trained: int
    squares: int


def predict_cost(
    config: Any,
    settings: TrainingArguments,
    lengths: Sequence[tuple[int, int]],
    device: str,
    team: ProcessGroup = ProcessGroup(),
    *,
    shared: bool = False,
) -> Prediction:
    """Predict from the model's configuration and the rows' (tokens, trained tokens).

    Memory and time are those of one process of the `team`, which may share the model out.

    The largest pack of the first steps decides the memory. The time is that of the first steps,
    carried forward: floating-point operations at the rate of a matrix product of this model's
    width, bytes that activations move at the rate of a copy, and a fixed time per operation, all
    three measured here within a second or two. It assumes that the device stays as busy as it is
    now, and leaves out loading, validations, checkpoints and what processes send one another.
    """
    whole = model_sizes(config, settings, device)
    own = whole.shared(team.size if shared else 1)
    rows = dummy_rows(lengths)
    longest = max(n for n, _ in lengths)
    limit, recompute = plan_memory(own, settings, longest, device, own.weights)
    steps = settings.total_steps(len(rows))
    tried = min(steps, _STEPS_TRIED)
    pads = not sees_all(config.get_text_config(), settings.max_tokens)
    loads = [
        each for step in range(tried) for each in _loads(rows, settings, limit, step, pads, team)
    ]
    peak = max(own.peak(load.tokens, load.trained, recompute) for load in loads)
    at = measure_rates(whole, device)
    spent = sum(pack_seconds(whole, load, recompute, at) for load in loads)
    spent += tried * _ADAM * own.trained / at.traffic
    return Prediction(
        trainable=whole.trained,
        tokens=round(sum(load.tokens for load in loads) * steps / tried),
        peak_bytes=round(_SLACK * peak),
        seconds=spent * steps / tried,
        steps=steps,
        micro_batch=limit.tokens,
        checkpointing=recompute,
    )


def pass_load(pack: Sequence[Encoded], pads: bool = False) -> PassLoad:
    """The load of a pack, padded to its longest row where rows cannot be packed."""
    lengths = [len(row.ids) for row in pack]
    if pads:
        lengths = [max(lengths)] * len(pack)
    trained = sum(row.trained for row in pack)
    return PassLoad(sum(lengths), trained, sum(n * n for n in lengths))


def pack_flops(sizes: Sizes, pack: PassLoad, recompute: bool) -> float:
    """Operations of one pack, forward and backward.

    Per weight of a linear layer and position: 2 forward, 2 for the gradient of its input, 2 more
    for each weight of the adapter, 2 where the forward pass is repeated. The same for the output
    layer at positions with logits, which is not repeated. (Neither is the very last product of a
    layer, which is counted nevertheless.) Attention: causal, half of each square.
    """
    body = 4 * sizes.linear + 6 * sizes.trained + 2 * (sizes.linear + sizes.trained) * recompute
    head = 4 * sizes.hidden * sizes.vocabulary
    attention = 2 * sizes.hidden * sizes.layers * (3.5 + recompute)
    return body * pack.tokens + head * pack.trained + attention * pack.squares


def pack_seconds(sizes: Sizes, pack: PassLoad, recompute: bool, at: Rates) -> float:
    """Time of one pack, forward and backward."""
    again = 1 + recompute / 3
    kept = (
        sizes.layers * sizes.kept * pack.tokens + sizes.vocabulary * sizes.itemsize * pack.trained
    )
    moved = _PASSES * kept + 2 * sizes.weights
    calls = _CALLS * sizes.layers * again
    work = pack_flops(sizes, pack, recompute)
    return work / at.flops + again * moved / at.traffic + calls * at.call


@lru_cache(maxsize=8)
def measure_rates(sizes: Sizes, device: str) -> Rates:
    """Measure a device with arrays of this model's width, once: plans of one process agree."""
    kind = torch.bfloat16 if sizes.itemsize == 2 or sizes.casts else torch.float32
    rows = 512 if device.split(":")[0] == "cpu" else 4096
    left = torch.ones(rows, sizes.hidden, dtype=kind, device=device)
    right = torch.ones(sizes.hidden, sizes.widest, dtype=kind, device=device)
    # Pages of zeros would all be one and the same page.
    large = torch.ones(2**24, device=device)
    small = torch.ones(8, device=device)
    product = 2 * rows * sizes.hidden * sizes.widest
    return Rates(
        product / _fastest(lambda: left @ right, device),
        2 * large.nbytes / _fastest(lambda: large.clone(), device),
        _fastest(lambda: small + small, device),
    )


def _fastest(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call, the best of some groups of calls."""
    work()
    best, calls = float("inf"), 1
    until = time.perf_counter() + 0.1
    while time.perf_counter() < until:
        synchronize(device)
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(device)
        spent = time.perf_counter() - begun
        best = min(best, spent / calls)
        calls = calls if spent > 0.01 else 2 * calls
    return best


def _loads(
    rows: Sequence[Encoded],
    settings: TrainingArguments,
    limit: PackLimits,
    step: int,
    pads: bool,
    team: ProcessGroup,
) -> list[PassLoad]:
    """The packs of one step, as the training will make them."""
    seed = settings.seed if settings.shuffle else None
    places = batch_indices(step, len(rows), settings.batch, seed)
    own = team.share([rows[place] for place in places])
    packs = best_fit(own, limit, pads)
    return [pass_load(pack, pads) for pack in packs]
