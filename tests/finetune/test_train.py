from __future__ import annotations

import errno
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import safetensors.torch
import torch

from domainlift.errors import BenchError, Malformed, Misuse
from engines.local.loading import load_model
from finetune.data.rows import Row
from finetune.training import checkpoints, trackers
from finetune.training.divergence import Diverged
from finetune.training.early_stopping import Validate, ValidationResult
from finetune.training.settings import TrainingArguments
from finetune.training.train import train_rows
from finetune.training.train_output import TrainingProgress, TrainOutput
from tests.helpers.forking import ForkServer
from tests.helpers.tolerance import assert_same_weights, loss_tolerance

ROWS = [
    Row(f"Question {i}: where{' and where' * (i % 4)} is it?\nAnswer:", f" at {7 * i % 13}.", "b")
    for i in range(10)
]
#: Three steps an epoch, the last one smaller; dropout, so that random numbers count.
PLAIN: dict[str, Any] = {
    "rank": 2,
    "batch": 4,
    "steps": 24,
    "save_every": 2,
    "eval_every": 0,
    "dropout": 0.1,
    "learning_rate": 1e-3,
    # Where nothing is left to measure, a training begins sooner.
    "micro_batch": 2048,
    "checkpointing": False,
}
SETTINGS = TrainingArguments(**PLAIN)


class Killed(BaseException):
    """Ends a training at once, as a signal does."""


@dataclass(frozen=True)
class Place:
    """One training's folders, and the base that it starts from."""

    base: Path
    folder: Path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """What was saved."""
        return safetensors.torch.load_file(self.folder / "adapter" / "adapter_model.safetensors")

    def train(
        self,
        settings: TrainingArguments = SETTINGS,
        *,
        rows: list[Row] = ROWS,
        spoil: Callable[[Any], object] | None = None,
        **more: Any,
    ) -> TrainOutput:
        """Train as a new process would: from the base and what lies in the folder."""
        model, tokenizer = load_model(str(self.base), device="cpu")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        if spoil is not None:
            spoil(model)
        try:
            return train_rows(
                rows,
                model,
                tokenizer,
                settings,
                checkpoint_folder=self.checkpoints,
                adapter_folder=self.folder / "adapter",
                **more,
            )
        finally:
            after = model.state_dict()
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before)

    def found(self) -> list[str]:
        """Names of the checkpoints, whole or not, and of the best weights."""
        names = (path.name for path in self.checkpoints.iterdir())
        return sorted(n for n in names if n not in {"tensorboard", "training.lock"})


@pytest.fixture
def place(base_folder: Path, tmp_path: Path) -> Place:
    return Place(base_folder, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(
    base_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainOutput, dict[str, torch.Tensor]]:
    place = Place(base_folder, tmp_path_factory.mktemp("undisturbed"))
    return place.train(), place.weights


def at(*steps: int) -> Callable[[TrainingProgress], None]:
    """A `notify` that ends the training at one of these steps."""

    def notify(progress: TrainingProgress) -> None:
        if progress.step in steps:
            raise Killed

    return notify


def assert_same(
    found: TrainOutput, place: Place, wanted: tuple[TrainOutput, dict[str, torch.Tensor]]
) -> None:
    assert found.losses == same_losses(wanted[0].losses)
    assert found.steps == wanted[0].steps
    assert found.tokens == wanted[0].tokens
    assert_same_weights(
        place.weights, wanted[1], steps=found.steps, learning_rate=SETTINGS.learning_rate
    )


def same_losses(losses: Sequence[float]) -> Any:
    """Equal but for rounding."""
    return pytest.approx(losses, rel=0, abs=loss_tolerance(losses, len(losses)))


# What a training does


def test_the_loss_falls_and_the_outcome_tells(place: Place) -> None:
    told: list[TrainingProgress] = []
    settings = replace(SETTINGS, dropout=0.0, max_tokens=24)
    out = place.train(settings, notify=told.append)
    assert sum(out.losses[-3:]) < 0.95 * sum(out.losses[:3])
    assert [p.step for p in told] == list(range(1, 25))
    assert [p.loss for p in told] == list(out.losses)
    assert (out.steps, out.best_step, out.stopped) == (24, 24, "done")
    assert out.truncated
    assert set(out.truncated) < {row.id for row in ROWS}
    assert out.peak_bytes > 0
    curves = json.loads((place.folder / "adapter" / "curves.json").read_text(encoding="utf-8"))
    assert curves["loss"] == list(out.losses)
    assert len(curves["learning_rate"]) == 24
    assert place.found() == ["checkpoint-00000024"]


@pytest.mark.parametrize("micro", [1, 40, 90])
def test_accumulated_gradients_are_those_of_one_big_batch(place: Place, micro: int) -> None:
    settings = replace(SETTINGS, dropout=0.0, batch=10, steps=6)
    whole = place.train(settings)
    other = Place(place.base, place.folder / "cut")
    cut = other.train(replace(settings, micro_batch=micro))
    assert cut.micro_batch == micro
    assert_same(cut, other, (whole, place.weights))


def test_no_rows_are_refused(place: Place) -> None:
    with pytest.raises(Misuse, match="nothing to train on"):
        place.train(rows=[])


# Interruptions


def test_a_training_ended_at_ten_steps_ends_like_an_undisturbed_one(
    place: Place, undisturbed: Any
) -> None:
    steps = sorted(random.Random(4).sample(range(1, 24), 10))
    for step in steps:
        with pytest.raises(Killed):
            place.train(notify=at(step))
    assert_same(place.train(), place, undisturbed)


CHILD = """
import os, sys, time
from pathlib import Path
import safetensors.torch
import torch
from engines.local.loading import load_model
from finetune.data.rows import Row
from finetune.training.settings import TrainingArguments
from finetune.training.train import train_rows

base, folder, settings, rows, ends = sys.argv[1:]
torch.set_num_threads(1)
write, written = safetensors.torch.save_file, []

def die():
    print("dying", flush=True)
    time.sleep(60)  # until the signal comes

def notify(progress):
    if ends == f"step {progress.step}":
        die()

def save_file(tensors, path, **more):
    written.append(path)
    write(tensors, path, **more)
    if ends == f"file {len(written)}":
        os.truncate(path, Path(path).stat().st_size // 2)
        die()

safetensors.torch.save_file = save_file
model, tokenizer = load_model(base, device="cpu")
train_rows([Row(*each) for each in eval(rows)], model, tokenizer,
           TrainingArguments(**eval(settings)), checkpoint_folder=Path(folder, "checkpoints"),
           adapter_folder=Path(folder, "adapter"), notify=notify)
"""


def test_kill_9_at_a_step_and_in_the_middle_of_a_checkpoint(
    place: Place, undisturbed: Any, fork_server: ForkServer
) -> None:
    """Two processes at once; the second has half of its third checkpoint's moments written."""
    ends = {"a step": "step 9", "a file": "file 6"}
    places = {name: Place(place.base, place.folder / name) for name in ends}
    rows = [(row.prompt, row.completion, row.domain) for row in ROWS]
    children = [
        fork_server.start("-c", CHILD, each.base, each.folder, repr(PLAIN), repr(rows), ends[name])
        for name, each in places.items()
    ]
    for child in children:
        assert child.stdout is not None
        said = child.stdout.readline()
        child.kill()
        child.communicate()
        assert said == "dying\n"
    assert places["a step"].found() == ["checkpoint-00000008", "training.json"]
    torn = places["a file"].found()
    assert torn[-2:] == ["checkpoint-00000004", "training.json"]
    assert any(name.startswith(".build-") for name in torn)
    for each in places.values():
        assert_same(each.train(), each, undisturbed)
        assert each.found() == ["checkpoint-00000024"]


def test_what_decides_only_how_may_change_on_the_way(place: Place) -> None:
    settings = replace(SETTINGS, dropout=0.0, steps=8)
    one = place.train(settings)
    other = Place(place.base, place.folder / "other")
    with pytest.raises(Killed):
        other.train(settings, notify=at(5))
    told: list[TrainingProgress] = []
    changed = replace(settings, micro_batch=20, checkpointing=True)
    two = other.train(changed, notify=told.append)
    assert told[0].step == 5
    assert (two.micro_batch, two.checkpointing) == (20, True)
    assert two.losses == same_losses(one.losses)


def test_a_finished_training_is_only_saved_again(place: Place) -> None:
    settings = replace(SETTINGS, steps=3)
    first = place.train(settings)
    weights = place.weights
    shutil.rmtree(place.folder / "adapter")
    told: list[TrainingProgress] = []
    again = place.train(settings, notify=told.append)
    assert told == []
    assert_same(again, place, (first, weights))


def test_a_weight_that_has_had_no_gradient_is_no_fault(place: Place) -> None:
    """A layer that no row has reached is unknown to the optimiser."""
    settings = replace(SETTINGS, steps=4, targets=("q_proj",))

    def idle(model: Any) -> None:
        layer = model.model.layers[1]
        layer.register_forward_hook(lambda module, args, output: args[0])

    with pytest.raises(Killed):
        place.train(settings, spoil=idle, notify=at(3))
    assert place.train(settings, spoil=idle).steps == 4


# Damage, a full disk


def _interrupted(place: Place) -> Path:
    with pytest.raises(Killed):
        place.train(notify=at(5))
    return place.checkpoints / "checkpoint-00000004"


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "half the weights": ("weights.safetensors", _halve),
    "half the moments": ("optimiser.safetensors", _halve),
    "half the state": ("state.json", _halve),
    "garbage": ("weights.safetensors", lambda path: path.write_bytes(b"\xff" * 99)),
    "nothing": ("optimiser.safetensors", lambda path: path.write_bytes(b"")),
    "no state": ("state.json", Path.unlink),
    "a list": ("state.json", lambda path: path.write_text("[1]")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    saved = checkpoints.Checkpoint(4, {"a": torch.ones(9)}, {"step a": torch.ones(1)}, {})
    checkpoints.save_checkpoint(tmp_path, saved)
    path = tmp_path / "checkpoint-00000004"
    name, harm = DAMAGE[damage]
    harm(path / name)
    with pytest.raises(Malformed, match=r"checkpoint-00000004: not a whole checkpoint") as caught:
        checkpoints.last_checkpoint(tmp_path)
    assert "\n" not in caught.value.what
    assert "starts at the beginning" in str(caught.value.hint)


def test_a_checkpoint_that_lacks_something_is_an_error_too(place: Place, undisturbed: Any) -> None:
    path = _interrupted(place)
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    for key in ("limits", "state", "recomputes"):
        less = {k: v for k, v in state.items() if k != key}
        (path / "state.json").write_text(json.dumps(less), encoding="utf-8")
        with pytest.raises(Malformed, match="not a whole checkpoint"):
            place.train()
    shutil.rmtree(path)
    assert_same(place.train(), place, undisturbed)


def test_an_older_checkpoint_and_what_was_torn_go_with_the_next(tmp_path: Path) -> None:
    saved = checkpoints.Checkpoint(4, {"a": torch.ones(9)}, {"step a": torch.ones(1)}, {"x": 1})
    (tmp_path / ".best-00000002.safetensors.0a.part").write_bytes(b"half")
    for step in (2, 3):
        checkpoints.save_best(tmp_path, step, {"a": torch.full((9,), float(step))})
    checkpoints.save_checkpoint(tmp_path, saved, best_step=3)
    checkpoints.save_checkpoint(tmp_path, replace(saved, step=6), best_step=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-00000003.safetensors",
        "checkpoint-00000006",
    ]
    found = checkpoints.last_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.state["x"]) == (6, 1)
    assert checkpoints.load_best(tmp_path, 3)["a"].tolist() == [3.0] * 9
    with pytest.raises(Malformed, match="best weights cannot be read"):
        checkpoints.load_best(tmp_path, 2)


@contextmanager
def full_disk(patch: pytest.MonkeyPatch, call: int) -> Iterator[None]:
    """From its n-th call on, nothing can be written."""
    write, calls = safetensors.torch.save_file, []

    def save_file(tensors: Any, path: Any, **more: Any) -> None:
        calls.append(path)
        if len(calls) >= call:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path, **more)

    with patch.context() as context:
        context.setattr(safetensors.torch, "save_file", save_file)
        yield


@pytest.mark.parametrize("call", [1, 6], ids=["first", "third"])
def test_a_full_disk_costs_no_checkpoint(
    place: Place, undisturbed: Any, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    with full_disk(monkeypatch, call), pytest.raises(BenchError, match="disk is full") as caught:
        place.train()
    assert "\n" not in caught.value.what
    assert "goes on" in str(caught.value.hint)
    assert place.found() == ([] if call == 1 else ["checkpoint-00000004"])
    assert_same(place.train(), place, undisturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_file_that_the_system_refuses_is_one_line(place: Place, undisturbed: Any) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def notify(progress: TrainingProgress) -> None:
        if progress.step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))

    try:
        with pytest.raises(BenchError, match="cannot be written") as caught:
            place.train(notify=notify)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in caught.value.what
    assert_same(place.train(), place, undisturbed)


def test_a_full_disk_at_the_best_weights(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, steps=4, eval_every=1, save_every=4)
    with full_disk(monkeypatch, 2), pytest.raises(BenchError, match="disk is full"):
        place.train(settings, validate=_scripted(0.1, 0.2, 0.3, 0.4))
    assert place.found() == ["best-00000001.safetensors"]
    assert place.train(settings, validate=_scripted(0.1, 0.2, 0.3, 0.4)).best_step == 4


# Memory


def no_memory(
    over: int, *, after: int = 0, times: int = 10**9, error: Exception | None = None
) -> Callable[[Any], None]:
    """Let calls of more than so many tokens fail, so many times, once so many have gone well."""
    left = [after, times]

    def spoil(model: Any) -> None:
        model.register_forward_pre_hook(hook, with_kwargs=True)

    def hook(module: Any, args: Any, given: dict[str, Any]) -> None:
        if given["input_ids"].numel() <= over:
            return
        if left[0] > 0:
            left[0] -= 1
        elif left[1] > 0:
            left[1] -= 1
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    return spoil


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_memory_that_runs_out_at_the_first_step(place: Place, error: Exception | None) -> None:
    settings = replace(SETTINGS, dropout=0.0, steps=6)
    wanted = place.train(settings), place.weights
    other = Place(place.base, place.folder / "less")
    out = other.train(settings, spoil=no_memory(40, error=error))
    assert 20 <= out.micro_batch <= 40
    assert not out.checkpointing
    assert_same(out, other, wanted)


def test_memory_that_runs_out_at_the_hundredth_step(place: Place) -> None:
    """It is found out once, and a resumed training knows of it."""
    settings = replace(SETTINGS, dropout=0.0, steps=102, batch=2, save_every=101, rank=1)
    wanted = place.train(settings), place.weights
    other = Place(place.base, place.folder / "less")
    with pytest.raises(Killed):
        other.train(settings, spoil=no_memory(26, after=99, times=1), notify=at(102))
    out = other.train(settings)
    assert out.micro_batch < wanted[0].micro_batch
    assert_same(out, other, wanted)


def test_work_that_is_done_again_draws_the_same_numbers(place: Place) -> None:
    """With one row at a time the work is the same, its activations apart."""
    settings = replace(SETTINGS, dropout=0.5, batch=1, steps=5, checkpointing=None)
    wanted = place.train(settings), place.weights
    calls: list[int] = []

    def spoil(model: Any) -> None:
        def hook(module: Any, *_: Any) -> None:
            calls.append(1)
            if module.training and not module.is_gradient_checkpointing and len(calls) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.register_forward_hook(hook)  # when numbers have been drawn

    other = Place(place.base, place.folder / "again")
    out = other.train(settings, spoil=spoil)
    assert out.checkpointing
    assert_same(out, other, wanted)


def test_one_row_that_is_too_much_is_named_with_advice(place: Place) -> None:
    with pytest.raises(BenchError, match=r"one row of \d+ tokens \(`[0-9a-f]{16}`\)") as caught:
        place.train(spoil=no_memory(15))
    assert "max_tokens" in str(caught.value.hint)
    assert "\n" not in caught.value.what


def test_activations_are_computed_again_where_one_row_is_too_much(place: Place) -> None:
    settings = replace(SETTINGS, dropout=0.0, steps=3, checkpointing=None)
    wanted = place.train(settings), place.weights
    other = Place(place.base, place.folder / "less")

    def spoil(model: Any) -> None:
        def hook(*_: Any, **__: Any) -> None:
            if model.training and not model.is_gradient_checkpointing:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.register_forward_pre_hook(hook)

    out = other.train(settings, spoil=spoil)
    assert out.checkpointing
    assert_same(out, other, wanted)


def test_other_errors_are_not_taken_for_memory(place: Place) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        place.train(spoil=no_memory(40, error=RuntimeError("size mismatch")))


def test_memory_that_runs_out_in_the_validation_is_one_line(place: Place) -> None:
    def validate(live: Any, step: int) -> ValidationResult:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(BenchError, match="memory does not suffice for"):
        place.train(replace(SETTINGS, eval_every=1), validate=validate)


# Losses that go wrong


def test_a_loss_that_is_no_number_names_the_step_and_its_rows(
    place: Place, undisturbed: Any
) -> None:
    calls: list[int] = []

    def spoil(model: Any) -> None:
        def hook(module: Any, args: Any, output: Any) -> Any:
            calls.append(1)
            if module.training and len(calls) > 10:
                output.logits = output.logits * torch.nan
            return output

        model.register_forward_hook(hook)

    with pytest.raises(Diverged, match=r"the loss is nan at step (\d+); its rows: `") as caught:
        place.train(spoil=spoil)
    assert sum(row.id in caught.value.what for row in ROWS) in {2, 4}
    # The weights have not been spoilt.
    assert_same(place.train(), place, undisturbed)


def test_a_loss_that_explodes_ends_the_training(place: Place) -> None:
    calls: list[int] = []

    def spoil(model: Any) -> None:
        def hook(module: Any, args: Any, output: Any) -> Any:
            calls.append(1)
            output.logits = output.logits * (20 if len(calls) > 12 else 1)
            return output

        model.register_forward_hook(hook)

    with pytest.raises(Diverged, match=r"has risen from .* at step \d+; its rows") as caught:
        place.train(spoil=spoil)
    assert "learning_rate" in str(caught.value.hint)


# Validation


def _scripted(*seen: float | str) -> Validate:
    """Accuracies one after another; a text is a fallen domain."""
    left = list(seen)

    def validate(live: Any, step: int) -> ValidationResult:
        found = left.pop(0)
        if isinstance(found, str):
            return ValidationResult(0.9, (found,), {"why": "p < 0.05"})
        return ValidationResult(found)

    return validate


def _watched(validate: Validate, kept: list[dict[str, torch.Tensor]]) -> Validate:
    def look(live: Any, step: int) -> ValidationResult:
        trained = {n: w for n, w in live.named_parameters() if "lora_" in n}
        names = {n: n.replace(".default", "") for n in trained}
        kept.append({names[n]: w.detach().clone() for n, w in trained.items()})
        return validate(live, step)

    return look


@pytest.mark.parametrize(
    ("seen", "steps", "best", "stopped"),
    [
        ((0.5, 0.7, 0.6, 0.6), 8, 4, "patience"),
        ((0.5, 0.7, 0.6, 0.8, 0.9), 10, 10, "done"),
        ((0.5, "history"), 4, 2, "fallen"),
        (("history",), 2, 2, "fallen"),
    ],
)
def test_validation_ends_it_and_the_best_weights_are_saved(
    place: Place, seen: tuple[float | str, ...], steps: int, best: int, stopped: str
) -> None:
    settings = replace(SETTINGS, steps=10, eval_every=2, patience=2, save_every=3)
    kept: list[dict[str, torch.Tensor]] = []
    out = place.train(settings, validate=_watched(_scripted(*seen), kept))
    assert (out.steps, out.best_step, out.stopped) == (steps, best, stopped)
    assert out.regressed == (("history",) if stopped == "fallen" else ())
    assert [each["step"] for each in out.validations] == [2 * i + 2 for i in range(len(seen))]
    saved = place.weights
    assert saved.keys() == kept[best // 2 - 1].keys()
    assert all(torch.equal(saved[n], w) for n, w in kept[best // 2 - 1].items())
    # It is over: asked again, it neither trains nor validates.
    again = place.train(settings, validate=_scripted())
    assert again.validations == out.validations
    assert all(torch.equal(saved[n], w) for n, w in place.weights.items())


def test_an_interrupted_training_knows_its_best(place: Place) -> None:
    settings = replace(SETTINGS, steps=12, eval_every=2, patience=0, save_every=4)
    seen = (0.5, 0.9, 0.6, 0.5, 0.5, 0.5)
    whole = place.train(settings, validate=_scripted(*seen))
    other = Place(place.base, place.folder / "again")
    with pytest.raises(Killed):
        other.train(settings, validate=_scripted(*seen), notify=at(7))
    out = other.train(settings, validate=_scripted(*seen[2:]))
    assert out.best_step == 4
    assert out.validations == whole.validations
    assert_same(out, other, (whole, place.weights))


def test_validation_sees_no_dropout_and_draws_no_numbers(place: Place) -> None:
    settings = replace(SETTINGS, dropout=0.5, steps=6)
    wanted = place.train(settings), place.weights
    ids = torch.arange(5, 25)[None]

    def validate(live: Any, step: int) -> ValidationResult:
        assert not any(module.training for module in live.modules())
        assert live.config._attn_implementation == "sdpa"
        torch.rand(7)
        one, two = live(ids).logits, live(ids).logits
        assert torch.equal(one, two)
        assert not one.requires_grad
        return ValidationResult(0.5 + torch.rand(1).item() / 10)

    other = Place(place.base, place.folder / "validated")
    out = other.train(replace(settings, eval_every=1, patience=0), validate=validate)
    assert len(out.validations) == 6
    assert out.losses == wanted[0].losses


# Folders


def test_a_second_training_in_one_folder_is_refused(place: Place) -> None:
    refused: list[BenchError] = []

    def notify(progress: TrainingProgress) -> None:
        if not refused:
            with pytest.raises(BenchError, match=r"is being written by process \d+") as caught:
                place.train()
            refused.append(caught.value)

    place.train(replace(SETTINGS, steps=3), notify=notify)
    assert "\n" not in refused[0].what
    assert "another folder" in str(refused[0].hint)


def test_a_checkpoint_of_another_training_is_refused_by_name(
    place: Place, random_base: Callable[..., Path], undisturbed: Any
) -> None:
    _interrupted(place)
    with pytest.raises(Misuse, match="another training: `learning_rate`, `seed` differ"):
        place.train(replace(SETTINGS, seed=1, learning_rate=2e-3))
    with pytest.raises(Misuse, match="`rows` differ"):
        place.train(rows=ROWS[::-1])
    other = random_base(place.folder / "other", seed=1)
    with pytest.raises(Misuse, match="`model` differ"):
        replace(place, base=other).train()
    assert_same(place.train(), place, undisturbed)


def test_slow_steps_are_stored_by_the_clock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.training.training_loop.MOST_UNSTORED", 0.0)
    settings = replace(SETTINGS, steps=6, eval_every=0, save_every=100)
    with pytest.raises(Killed):
        place.train(settings, notify=at(4))
    found = checkpoints.last_checkpoint(place.checkpoints)
    assert found is not None
    assert found.step == 3
    assert place.train(settings).steps == 6


def test_curves_for_tensorboard(place: Place) -> None:
    """Of what an interrupted training wrote beyond its checkpoint nothing is shown twice."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = replace(SETTINGS, steps=8, eval_every=4, save_every=3)
    for step in (2, 5):
        with pytest.raises(Killed):
            place.train(settings, notify=at(step), validate=_scripted(0.5))
    out = place.train(settings, validate=_scripted(0.5, 0.6))
    board = accumulator.EventAccumulator(str(place.checkpoints / "tensorboard")).Reload()
    losses = board.Scalars("train/loss")
    assert [event.step for event in losses] == list(range(1, 9))
    assert [event.value for event in losses] == same_losses(out.losses)
    shown = [(event.step, event.value) for event in board.Scalars("validation/accuracy")]
    assert shown == [(4, 0.5), (8, pytest.approx(0.6))]


class Recorded:
    """A tracker of runs in a dictionary, which may refuse to go on."""

    runs: ClassVar[dict[str, list[tuple[int, str]]]] = {}
    fails_at = 0

    def __init__(self, folder: Path, step: int) -> None:
        self._run = self.runs.setdefault(folder.name, [])

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise RuntimeError("no\nserver")
        self._run += [(step, name) for name in figures]

    def close(self) -> None:
        self._run.append((-1, "closed"))


@pytest.mark.parametrize("fails_at", [0, 2])
def test_other_trackers_get_the_curves_as_long_as_they_take_them(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails_at: int,
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "json", Recorded)  # any module that is there
    monkeypatch.setattr(Recorded, "runs", {})
    monkeypatch.setattr(Recorded, "fails_at", fails_at)
    assert place.train(replace(SETTINGS, steps=3, track="json")).steps == 3
    (told,) = Recorded.runs.values()
    steps = [step for step, name in told if name == "train/loss"]
    assert steps == ([1] if fails_at else [1, 2, 3])
    assert ((-1, "closed") in told) is (not fails_at)
    note = "note: json takes no more of the curves: no server\n"
    assert capsys.readouterr().err.count(note) == bool(fails_at)


@pytest.mark.parametrize(("track", "says"), [("mlfow", "no tracker"), ("there", "not installed")])
def test_a_tracker_that_is_not_there_is_an_error_before_anything(
    monkeypatch: pytest.MonkeyPatch, track: str, says: str
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "there", Recorded)
    with pytest.raises(BenchError, match=says):
        TrainingArguments(track=track)


def test_a_log_that_cannot_be_written_ends_no_training(place: Place) -> None:
    place.checkpoints.mkdir()
    (place.checkpoints / "tensorboard").write_text("a file in the way")
    assert place.train(replace(SETTINGS, steps=2)).steps == 2
