"""What one of several processes does with the model by itself: ask, validate, write.

The others wait for what it says. Where they hold parts of the model (`finetune.distributed.fsdp`),
it tells them of each pass, and they make the smallest one along with it, for the sake of their
parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from domainlift.errors import BenchError
from finetune.distributed.fsdp import fsdp_root, smallest_pass
from finetune.distributed.process_group import ProcessGroup

#: What the first process says instead of a text's length: make one more pass; it has failed.
_PASS, _FAILED = -1, -2
#: A launcher ends the others at once where one has failed: the first is to say why before.
_COURTESY = 1.0


def run_on_rank_zero(team: ProcessGroup, model: Any, work: Callable[[], str]) -> str:
    """What the first process says after work that it alone does with the model.

    The others wait, and lend it their parts of the weights. Where it fails, they raise BenchError.
    """
    if team.size == 1:
        return work()
    if not team.is_main:
        return _follow(team, model)
    with _announced(team, model) as under_way:
        try:
            said = work().encode()
        except Exception:
            # In the middle of a pass the others expect a layer, and no word: they notice the end.
            if not under_way():
                team.broadcast_int(_FAILED, model.device)
            raise
    team.broadcast_int(len(said), model.device)
    team.broadcast_bytes(said, model.device)
    return said.decode()


def _follow(team: ProcessGroup, model: Any) -> str:
    import torch

    root = fsdp_root(model)
    training = model.training
    model.eval()
    with torch.no_grad():
        while (said := team.broadcast_int(0, model.device)) == _PASS:
            smallest_pass(root, model.device)
    model.train(training)
    if said == _FAILED:
        time.sleep(_COURTESY)
        raise BenchError("the first process has given up", "see what it said")
    return team.broadcast_bytes(bytes(said), model.device).decode()


@contextmanager
def _announced(team: ProcessGroup, model: Any) -> Iterator[Callable[[], bool]]:
    """Tell the others of each pass before it begins; yields whether one has begun and not ended."""
    root = fsdp_root(model)
    if root is None:
        yield lambda: False
        return
    left = False

    def begin(*_: Any) -> None:
        nonlocal left
        if left:
            raise BenchError(
                "a pass through a model that is shared out did not come to its end",
                "where memory ran out: set `--dtype bfloat16`, or take more devices",
            )
        team.broadcast_int(_PASS, model.device)
        left = True

    def end(*_: Any) -> None:
        nonlocal left
        left = False

    hooks = [root.register_forward_pre_hook(begin, prepend=True), root.register_forward_hook(end)]
    try:
        yield lambda: left
    finally:
        for hook in hooks:
            hook.remove()
