"""Work done on rank 0 (preparing, validating, writing) while the other ranks wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from domainlift.errors import BenchError
from finetune.distributed.process_group import ProcessGroup

#: Sent by rank 0 instead of a length: the work has failed.
_FAILED = -1
#: Seconds: launchers kill all ranks when one fails, and rank 0 is to print its error before.
_COURTESY = 1.0


def run_on_rank_zero(team: ProcessGroup, device: Any, work: Callable[[], str]) -> str:
    """Run `work` on rank 0 and return its text on all ranks; BenchError there where it fails."""
    if team.size == 1:
        return work()
    if team.is_main:
        try:
            text = work().encode()
        except Exception:
            team.broadcast_int(_FAILED, device)
            raise
        team.broadcast_int(len(text), device)
        team.broadcast_bytes(text, device)
        return text.decode()
    length = team.broadcast_int(0, device)
    if length == _FAILED:
        time.sleep(_COURTESY)
        raise BenchError("the first process has given up", "see what it said")
    return team.broadcast_bytes(bytes(length), device).decode()
