"""What one of several processes does with the model by itself: ask, validate, write.

The others wait for what it says. Where they hold parts of the model (`finetune.distributed.fsdp`), it tells
them of each pass, and they make the smallest one along with it, for the sake of their parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from domainlift.errors import BenchError
from finetune.distributed.fsdp import root_of_parts, smallest_pass
from finetune.distributed.process_group import Team

#: What the first process says instead of a text's length: make one more pass; it has failed.
_PASS, _FAILED = -1, -2
#: A launcher ends the others at once where one has failed: the first is to say why before.
_COURTESY = 1.0


def led(team: Team, model: Any, work: Callable[[], str]) -> str:
    """What the first process says after work that it alone does with the model.

    The others wait, and lend it their parts of the weights. Where it fails, they raise BenchError.
    """
    if team.size == 1:
        return work()
    if not team.leads:
        return _follow(team, model)
    with _announced(team, model) as under_way:
        try:
            said = work().encode()
        except Exception:
            # In the middle of a pass the others expect a layer, and no word: they notice the end.
            if not under_way():
                team.number(_FAILED, model.device)
            raise
    team.number(len(said), model.device)
    team.text(said, model.device)
    return said.decode()


def _follow(team: Team, model: Any) -> str:
    import torch

    root = root_of_parts(model)
    training = model.training
    model.eval()
    with torch.no_grad():
        while (said := team.number(0, model.device)) == _PASS:
            smallest_pass(root, model.device)
    model.train(training)
    if said == _FAILED:
        time.sleep(_COURTESY)
        raise BenchError("the first process has given up", "see what it said")
    return team.text(bytes(said), model.device).decode()


@contextmanager
def _announced(team: Team, model: Any) -> Iterator[Callable[[], bool]]:
    """Tell the others of each pass before it begins; yields whether one has begun and not ended."""
    root = root_of_parts(model)
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
        team.number(_PASS, model.device)
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
