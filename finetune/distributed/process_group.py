"""Several processes train one model together, each on its share of every step's rows.

A launcher (`accelerate launch`, `torchrun`) starts them and tells each through the environment who
it is. All take the same steps: gradients are sums over all of them. The first alone asks, writes
and talks. Rows are shared out rather than packs, so that a process that holds the whole model can
cut its own share smaller without asking the others, where its memory runs out
(`finetune.distributed.fsdp` tells of those that hold parts).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from domainlift.errors import BenchError
from finetune.training.tokenize import Encoded

if TYPE_CHECKING:
    import torch

#: The others wait so long while the first one validates.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class ProcessGroup:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process asks, writes and talks."""
        return self.rank == 0

    def share(self, examples: Sequence[Encoded]) -> list[Encoded]:
        """The rows of a step that are this process's; all shares together hold every row once.

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
        """Draw other random numbers than the others do, and the same ones after an interruption."""
        if self.size > 1:
            import torch

            torch.manual_seed((seed * 1_000_003 + step) * self.size + self.rank)

    def all_reduce_sum(self, weights: Iterable[torch.Tensor], loss: float) -> float:
        """Sum gradients, in place, and the loss over all processes; the loss in nats.

        At least one weight must be whole in each.
        """
        if self.size == 1:
            return loss
        import torch

        # What is shared out was summed on its way here.
        weights = [weight for weight in weights if not is_part(weight)]
        total = torch.tensor([loss], dtype=torch.float64, device=weights[0].device)
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        with _others():
            _sum([total, *(weight.grad for weight in weights if weight.grad is not None)])
        return float(total)

    def all_reduce_max(self, number: int, device: torch.device) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return number
        import torch
        from torch.distributed import ReduceOp, all_reduce

        said = torch.tensor(number, device=device)
        with _others():
            all_reduce(said, ReduceOp.MAX)
        return int(said)

    def broadcast_int(self, number: int, device: torch.device) -> int:
        """The first process's number; the others, whose own is not read, wait for it."""
        return int.from_bytes(
            self.broadcast_bytes(number.to_bytes(8, signed=True), device), signed=True
        )

    def broadcast_bytes(self, text: bytes, device: torch.device) -> bytes:
        """The first process's text; the others give one of the same length, which is not read.

        Nothing is sent for an empty one.
        """
        if self.size == 1 or not text:
            return text
        import torch
        from torch.distributed import broadcast

        said = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
        with _others():
            broadcast(said, src=0)
        return bytes(said.cpu().numpy())


def join_group(device: torch.device) -> ProcessGroup:
    """Join the processes of a launcher until `destroy`; alone there are none."""
    if from_environment().size == 1:
        return ProcessGroup()
    import torch
    import torch.distributed as together

    if not is_initialized():  # to join a second time, as torch may, hangs
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with _others():
            together.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE
            )
    return ProcessGroup(together.get_rank(), together.get_world_size())


def destroy() -> None:
    """Part from the others after all went well; who failed just ends, as a launcher expects."""
    if from_environment().size > 1 and is_initialized():
        from torch.distributed import destroy_process_group

        destroy_process_group()


def is_initialized() -> bool:
    """Whether this process has joined others; never where torch was built without that."""
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_part(weight: torch.Tensor) -> bool:
    """Whether this process holds a part of a weight."""
    if not is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(weight, DTensor)


def from_environment() -> ProcessGroup:
    """What a launcher says of this process, which need not have met the others yet."""
    return ProcessGroup(int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1))


def own_device(wanted: str) -> str:
    """The device of this process: under a launcher each has a CUDA device of its own."""
    if from_environment().size == 1 or wanted not in {"auto", "cuda"}:
        return wanted
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else wanted


def _sum(tensors: Sequence[torch.Tensor]) -> None:
    from torch.distributed import all_reduce

    for work in [all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()


@contextmanager
def _others() -> Iterator[None]:
    """Say in one line that another process is gone, which torch says in twenty."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise BenchError(
            f"another process of this training cannot be reached: {first}",
            "see what it said; repeat the command to go on from the last checkpoint",
        ) from error
