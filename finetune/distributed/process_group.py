"""Process group of a data-parallel training: each process takes a share of every step's rows.

A launcher (`accelerate launch`, `torchrun`) starts the processes and sets RANK and WORLD_SIZE. All
take the same steps: gradients are summed over them. Rank 0 alone validates, writes and prints.
Rows are distributed rather than packs, so that a process that holds the whole model can split its
own share further when its memory runs out, without the others (for sharded models see
`finetune.distributed.fsdp`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError

if TYPE_CHECKING:
    import torch

    from finetune.training.tokenize import Encoded

#: How long other ranks wait while rank 0 validates.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class ProcessGroup:
    """Rank of this process, and the number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, which validates, writes and prints."""
        return self.rank == 0

    def share(self, examples: Sequence[Encoded]) -> list[Encoded]:
        """Rows of a step for this rank; the shares of all ranks hold every row once.

        The longest row goes first, each to the process with the fewest tokens so far.
        """
        shares: list[list[Encoded]] = [[] for _ in range(self.size)]
        loads = [0] * self.size
        for example in sorted(examples, key=lambda e: (-len(e.ids), e.ids)):
            least = loads.index(min(loads))
            shares[least].append(example)
            loads[least] += len(example.ids)
        return shares[self.rank]

    def seed(self, seed: int, step: int) -> None:
        """Seed torch per rank and step, so that a resumed training draws the same numbers."""
        if self.size > 1:
            import torch

            torch.manual_seed((seed * 1_000_003 + step) * self.size + self.rank)

    def all_reduce_sum(self, weights: Iterable[torch.Tensor], loss: float) -> float:
        """Sum gradients, in place, and the loss over all processes; the loss in nats."""
        if self.size == 1:
            return loss
        import torch

        weights = list(weights)
        total = torch.tensor([loss], dtype=torch.float64, device=weights[0].device)
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        with _connection_errors():
            _sum([total, *(weight.grad for weight in weights if weight.grad is not None)])
        return float(total)

    def all_reduce_max(self, number: int, device: torch.device) -> int:
        """The largest of all ranks' numbers."""
        if self.size == 1:
            return number
        import torch
        from torch.distributed import ReduceOp, all_reduce

        buffer = torch.tensor(number, device=device)
        with _connection_errors():
            all_reduce(buffer, ReduceOp.MAX)
        return int(buffer)

    def broadcast(self, value: Any, device: torch.device) -> Any:
        """A value from rank 0; those of other ranks are ignored."""
        if self.size == 1:
            return value
        from torch.distributed import broadcast_object_list

        held = [value]
        with _connection_errors():
            broadcast_object_list(held, src=0, device=device)
        return held[0]


def join_group(device: torch.device) -> ProcessGroup:
    """Initialise the process group of a launcher; without a launcher it has one process."""
    if from_environment().size == 1:
        return ProcessGroup()
    import torch
    import torch.distributed as together

    if not is_initialized():  # to join a second time, as torch may, hangs
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with _connection_errors():
            together.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE
            )
    return ProcessGroup(together.get_rank(), together.get_world_size())


def destroy() -> None:
    """Destroy the process group after success; a failed process just exits, as launchers expect."""
    if from_environment().size > 1 and is_initialized():
        from torch.distributed import destroy_process_group

        destroy_process_group()


def is_initialized() -> bool:
    """Whether the process group is initialised."""
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def from_environment() -> ProcessGroup:
    """Rank and size from the launcher's environment, before the group is initialised."""
    return ProcessGroup(int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1))


def own_device(wanted: str) -> str:
    """The device of this process: under a launcher each has its own CUDA device."""
    if from_environment().size == 1 or wanted not in {"auto", "cuda"}:
        return wanted
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else wanted


def _sum(tensors: Sequence[torch.Tensor]) -> None:
    from torch.distributed import all_reduce

    for work in [all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn torch's errors about a lost process into BenchError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise BenchError(
            f"another process of this training cannot be reached: {first}",
            "see what it said; repeat the command to go on from the last checkpoint",
        ) from error
