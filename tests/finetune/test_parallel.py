from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError
from engines.loading import load
from finetune.base import Row
from finetune.encoding import Encoded
from finetune.parallel import Team, own_device, team
from finetune.settings import Training
from finetune.training import train
from finetune.watching import Validation

#: Six rows, then one: processes have different numbers of rows, and one of them has none.
ROWS = [
    Row(f"Question {i}: where{' and where' * (i % 4)} is it?\nAnswer:", f" at {7 * i % 13}.", "b")
    for i in range(7)
]
PLAIN: dict[str, Any] = {
    "rank": 2,
    "batch": 6,
    "steps": 10,
    "save_every": 4,
    "eval_every": 2,
    "patience": 2,
    "learning_rate": 1e-3,
    "micro_batch": 60,
    "checkpointing": False,
}
#: The best is the second; the fourth ends it.
SEEN = (0.5, 0.6, 0.6, 0.5)


def train_once(base: str, folder: Path) -> dict[str, Any]:
    """Train as one of the processes, and tell what came out."""
    model, tokenizer = load(base, device="cpu")
    left = list(SEEN)
    told: list[int] = []
    rank = os.environ.get("RANK", "0")

    def validate(live: Any, step: int) -> Validation:
        return Validation(left.pop(0))

    out = train(
        ROWS,
        model,
        tokenizer,
        Training(**PLAIN),
        checkpoint_folder=folder / "checkpoints",
        adapter_folder=folder / "adapter",
        validate=validate,
        notify=lambda progress: told.append(progress.step),
    )
    (folder / f"out-{rank}.json").write_text(
        json.dumps([out.losses, out.stopped, out.tokens, told, len(SEEN) - len(left)])
    )
    return {"losses": out.losses, "stopped": out.stopped, "tokens": out.tokens}


def launched(base: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run two processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # What `accelerate launch` runs for several GPUs; on processors it starts one process only.
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    where = ["--master-addr", "127.0.0.1", "--master-port", port]
    script = [__file__, str(base), str(folder)]
    return subprocess.run(
        [sys.executable, "-W", "ignore", *launcher, *where, *script],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="launchers there need another store")
def test_two_processes_do_what_one_does(base_folder: Path, tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir()
    both.mkdir()
    wanted = train_once(str(base_folder), alone)
    done = launched(base_folder, both)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((both / f"out-{r}.json").read_text()) for r in (0, 1))
    assert first[0] == pytest.approx(wanted["losses"], rel=1e-5)
    assert first[:3] == second[:3]
    assert first[1:3] == [wanted["stopped"], wanted["tokens"]] == ["patience", wanted["tokens"]]
    # The first one alone validates and tells.
    assert first[3:] == [list(range(1, 9)), 4]
    assert second[3:] == [[], 0]
    weights = [
        safetensors.torch.load_file(f / "adapter" / "adapter_model.safetensors")
        for f in (alone, both)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], atol=1e-6), name


LENGTHS = st.lists(st.integers(2, 60), max_size=40)


@given(LENGTHS, st.integers(1, 6))
def test_shares_hold_every_row_once_and_are_level(lengths: list[int], size: int) -> None:
    examples = [Encoded(tuple(range(n)), 1, Row(str(i), "", "b")) for i, n in enumerate(lengths)]
    shares = [Team(rank, size).share(examples) for rank in range(size)]
    assert sorted(e.row.prompt for share in shares for e in share) == sorted(
        e.row.prompt for e in examples
    )
    loads = [sum(len(e.ids) for e in share) for share in shares]
    assert max(loads) - min(loads) <= max(lengths, default=0)


def test_alone_nothing_is_asked_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with team(torch.device("cpu")) as found:
        assert found == Team(0, 1)
        assert found.leads
        assert found.agree("ready", torch.device("cpu")) == "ready"
        assert found.add_up([torch.ones(1)], 2.5) == 2.5


def test_others_that_are_not_there_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(BenchError, match="another process of this training") as caught,
        team(torch.device("cpu")),
    ):
        pass
    assert "\n" not in caught.value.what


@pytest.mark.parametrize(
    ("size", "there", "wanted", "device"),
    [
        ("4", True, "auto", "cuda:3"),
        ("4", True, "cuda", "cuda:3"),
        ("4", True, "cpu", "cpu"),
        ("4", False, "auto", "auto"),
        ("1", True, "auto", "auto"),
    ],
)
def test_under_a_launcher_each_process_has_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, size: str, there: bool, wanted: str, device: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert own_device(wanted) == device


if __name__ == "__main__":
    train_once(sys.argv[1], Path(sys.argv[2]))
