"""Predicted peak memory of trainings against what they take.

python -m perf.memory
python -m perf.memory --only 0.5b dora

Random weights of Qwen2.5's shapes with the real vocabulary, rows of random tokens. Each training
runs in a process of its own. A small training runs first and brings in code and buffers. What was
measured is the kernel's high-water mark of resident memory, set back once the model is made
(`/proc/self/clear_refs`), less what was resident before it was made. Blocks of 4 MiB or more, of 1
MiB where activations are recomputed, are mapped by themselves and returned when they are freed, as
in every training of ours (`finetune.memory.estimate.return_freed`), so that resident is what the
program holds, not what it once held. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune.memory.estimate import peak_bytes
from perf import shapes
from perf.commands import measure_apart

_SETTINGS: dict[str, Any] = {"steps": 2, "eval_every": 0, "checkpointing": False}
_MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One training: a shape with some layers, rows of one length with so many trained tokens."""

    shape: str
    layers: int
    rows: int
    length: int
    trained: int
    settings: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def title(self) -> str:
        """What is special about it."""
        said = [self.settings.get("method", "lora"), f"r{self.settings.get('rank', 16)}"]
        said += ["recomputed"] if self.settings.get("checkpointing") else []
        return " ".join([*said, self.dtype])


CASES = (
    Case("0.5b", 24, 4, 64, 4),
    Case("0.5b", 24, 4, 128, 4, {"checkpointing": True}),
    Case("0.5b", 4, 16, 128, 8, {"rank": 64}),
    Case("0.5b", 4, 2, 1024, 8),
    Case("0.5b", 4, 8, 128, 100),
    Case("0.5b", 4, 4, 128, 4, {}, "bfloat16"),
    Case("0.5b", 4, 8, 128, 8, {"method": "dora"}),
    Case("3b", 2, 8, 128, 8),
)


def main() -> None:
    """Measure each case, and print the table."""
    parser = argparse.ArgumentParser(description="predicted memory against measured")
    parser.add_argument("--only", nargs="+", help="words that a case's title or shape has")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.case is not None:
        print(json.dumps(_measure(CASES[settings.case], settings.device)))
        return
    print(
        "| shape | layers | rows × tokens | trained | method | predicted, MiB | measured | error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for number, case in enumerate(CASES):
        words = {case.shape, *case.title.split()}
        if settings.only is None or words.issuperset(settings.only):
            asked = ("--case", str(number), "--device", settings.device)
            print(_line(case, measure_apart("perf.memory", *asked)), flush=True)


def forget_peak(device: str) -> None:
    """Begin anew with what `peak` says; without effect off Linux."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak(device: str) -> int:
    """The most bytes that were held since `forget_peak`: on the accelerator, or resident."""
    if device.startswith("cuda") or not Path("/proc/self/status").exists():
        return peak_bytes(device)
    return _memory("VmHWM")


def held(device: str) -> int:
    """Bytes that are held now; off Linux the most so far."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.memory_allocated()
    return _memory("VmRSS") if Path("/proc/self/status").exists() else peak(device)


def _line(case: Case, found: dict[str, Any]) -> str:
    predicted, measured = found["predicted"], found["measured"]
    return (
        f"| {case.shape} | {case.layers} | {case.rows} × {case.length} | {case.trained} "
        f"| {case.title} | {predicted / _MIB:,.0f} | {measured / _MIB:,.0f} "
        f"| {100 * (predicted / measured - 1):+.1f} % |"
    )


def _measure(case: Case, device: str) -> dict[str, float]:
    from finetune.memory.cost_model import predict_cost
    from finetune.memory.estimate import return_freed
    from finetune.training.settings import TrainingArguments

    chosen = {**_SETTINGS, "batch": case.rows, "micro_batch": case.rows * case.length}
    settings = TrainingArguments(**{**chosen, **case.settings})
    return_freed()
    _train(Case("0.5b", 1, 2, 16, 2), TrainingArguments(steps=2, checkpointing=False), device)
    gc.collect()
    before = held(device)
    config = _train(case, settings, device)
    measured = peak(device) - before
    lengths = [(case.length, case.trained)] * case.rows
    return {
        "predicted": predict_cost(config, settings, lengths, device).peak_bytes,
        "measured": measured,
    }


def _train(case: Case, settings: Any, device: str) -> Any:
    """Train, and return the model's configuration."""
    import torch

    from finetune.data.rows import Row
    from finetune.distributed.process_group import ProcessGroup
    from finetune.training.tokenize import Encoded
    from finetune.training.training_loop import TrainingLoop

    torch.set_default_dtype(getattr(torch, case.dtype))
    model = shapes.model(case.shape, layers=case.layers, device=device, dtype=case.dtype)
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (case.rows, case.length), generator=generator)
    row = Row("", "", "")
    forget_peak(device)
    examples = [Encoded(tuple(each), case.length - case.trained, row) for each in ids.tolist()]
    with TemporaryDirectory() as folder:
        run = TrainingLoop(examples, model, settings, Path(folder), ProcessGroup())
        run.run(None, None)
        run.close()
    return model.config


def _memory(what: str) -> int:
    """Bytes that the kernel states of this process: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("error: this system's /proc does not state memory")


if __name__ == "__main__":
    main()
