"""Work done on rank 0 (preparing, validating, writing) while the other ranks wait.

With a sharded model (`finetune.distributed.fsdp`) rank 0 announces each forward pass, and the other
ranks follow it with the smallest one, so that the shards can be gathered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from domainlift.errors import BenchError
from finetune.distributed.fsdp import fsdp_root, smallest_pass
from finetune.distributed.process_group import ProcessGroup

#: Sent by rank 0 instead of a text: make one more pass; the work has failed.
_PASS, _FAILED = -1, -2
#: Seconds: launchers kill all ranks when one fails, and rank 0 is to print its error before.
_COURTESY = 1.0


def run_on_rank_zero(team: ProcessGroup, model: Any, work: Callable[[], str]) -> str:
    """Run `work` on rank 0 and return its text on all ranks.

    The other ranks follow its forward passes. Where it fails, they raise BenchError.
    """
    if team.size == 1:
        return work()
    if not team.is_main:
        return _follow(team, model)
    with _announced(team, model) as under_way:
        try:
            text = work()
        except Exception:
            # In the middle of a pass the other ranks expect weights, and notice the exit.
            if not under_way():
                team.broadcast(_FAILED, model.device)
            raise
    team.broadcast(text, model.device)
    return text


def _follow(team: ProcessGroup, model: Any) -> str:
    root = fsdp_root(model)
    training = model.training
    model.eval()
    with torch.no_grad():
        while (said := team.broadcast(None, model.device)) == _PASS:
            smallest_pass(root, model.device)
    model.train(training)
    if said == _FAILED:
        time.sleep(_COURTESY)
        raise BenchError("the first process has given up", "see what it said")
    return str(said)


@contextmanager
def _announced(team: ProcessGroup, model: Any) -> Iterator[Callable[[], bool]]:
    """Announce each forward pass to the other ranks; yields whether one is under way."""
    root = fsdp_root(model)
    if root is None:
        yield lambda: False
        return
    running = False

    def begin(*_: Any) -> None:
        nonlocal running
        if running:
            raise BenchError(
                "a pass through a model that is shared out did not come to its end",
                "where memory ran out: set `--dtype bfloat16`, or take more devices",
            )
        team.broadcast(_PASS, model.device)
        running = True

    def end(*_: Any) -> None:
        nonlocal running
        running = False

    hooks = [root.register_forward_pre_hook(begin, prepend=True), root.register_forward_hook(end)]
    try:
        yield lambda: running
    finally:
        for hook in hooks:
            hook.remove()
