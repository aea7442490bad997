from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from domainlift.errors import BenchError, Misuse
from engines.local.loading import load_model
from finetune.data.mixing import REPLAY
from finetune.data.rows import Row
from finetune.multi_adapter.loop import JointTask, train_together
from finetune.training.divergence import Diverged
from finetune.training.early_stopping import ValidationResult
from finetune.training.settings import TrainingArguments
from finetune.training.train import train_rows
from finetune.training.train_result import TrainingProgress, TrainResult
from tests.helpers.tolerance import assert_same_weights, loss_tolerance, rounding

#: Domains with other numbers of rows, and so of steps: 6, 4 and 8.
ROWS = {
    name: [
        Row(f"{name} {i}: where{' and where' * (i % 4)}?\nAnswer:", f" at {times * i % 13}.", name)
        for i in range(count)
    ]
    for name, count, times in (("biology", 10, 7), ("history", 5, 3), ("security", 13, 5))
}
#: The last row of each is one that the model knows, the same for two of them.
for _name, _known in (("biology", "two"), ("history", "two"), ("security", "ten")):
    ROWS[_name][-1] = Row(f"One and {_known}?\nAnswer:", " three.", "sums", kind=REPLAY)
SETTINGS = TrainingArguments(
    rank=2,
    batch=4,
    epochs=2,
    save_every=2,
    eval_every=2,
    patience=1,
    learning_rate=1e-2,
    micro_batch=2048,
    checkpointing=False,
)
#: Biology is ended early and has its best behind it; history and security take all their steps.
SEEN = {"biology": (0.6, 0.5), "history": (0.3, 0.4), "security": (0.1, 0.2, 0.3, 0.4)}


class Killed(BaseException):
    """Ends a training at once, as a signal does."""


@dataclass(frozen=True)
class Place:
    """Folders of trainings over one base."""

    base: Path
    folder: Path

    def subject(self, name: str, seen: Sequence[float] = ()) -> JointTask:
        return JointTask(
            ROWS[name],
            self.folder / name,
            self.folder / name / "adapter",
            scripted(seen) if seen else None,
        )

    def together(
        self,
        settings: TrainingArguments = SETTINGS,
        *,
        subjects: Mapping[str, JointTask] | None = None,
        notify: Callable[[TrainingProgress], None] | None = None,
        spoil: Callable[[Any], object] | None = None,
    ) -> dict[str, TrainResult]:
        """Train as a new process would, and see that the model comes back as it was."""
        model, tokenizer = load_model(str(self.base), device="cpu")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        if spoil is not None:
            spoil(model)
        chosen = {name: self.subject(name, SEEN[name]) for name in ROWS}
        try:
            wanted = chosen if subjects is None else subjects
            return train_together(wanted, model, tokenizer, settings, notify)
        finally:
            after = model.state_dict()
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before)
            assert not model.training

    def alone(
        self,
        name: str,
        settings: TrainingArguments = SETTINGS,
        seen: Sequence[float] = (),
        **more: Any,
    ) -> TrainResult:
        model, tokenizer = load_model(str(self.base), device="cpu")
        subject = self.subject(name, seen)
        return train_rows(
            subject.rows,
            model,
            tokenizer,
            settings,
            checkpoint_folder=subject.checkpoint_folder,
            adapter_folder=subject.adapter_folder,
            **{"validate": subject.validate, **more},
        )

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        path = self.folder / name / "adapter" / "adapter_model.safetensors"
        return safetensors.torch.load_file(path)

    def json(self, name: str, file: str) -> dict[str, Any]:
        text = (self.folder / name / "adapter" / file).read_text(encoding="utf-8")
        return dict(json.loads(text))


def scripted(seen: Sequence[float]) -> Callable[[Any], ValidationResult]:
    """Accuracies one after another; the model answers as this adapter alone."""
    left = list(seen)

    def validate(live: Any, step: int) -> ValidationResult:
        assert not live.training
        with torch.inference_mode():  # as an engine asks
            live(torch.arange(6)[None], use_cache=False)
        return ValidationResult(left.pop(0))

    return validate


@pytest.fixture
def place(base_folder: Path, tmp_path: Path) -> Place:
    return Place(base_folder, tmp_path)


Outcomes = tuple[Place, dict[str, TrainResult]]


@pytest.fixture(scope="module")
def apart(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Each trained by itself, one after the other."""
    place = Place(base_folder, tmp_path_factory.mktemp("apart"))
    return place, {name: place.alone(name, seen=SEEN[name]) for name in ROWS}


def assert_same(place: Place, found: Mapping[str, TrainResult], wanted: Outcomes) -> None:
    for name, out in found.items():
        other = wanted[1][name]
        tolerance = loss_tolerance(other.losses, out.steps)
        assert out.losses == pytest.approx(other.losses, rel=0, abs=tolerance)
        for key in ("steps", "tokens", "best_step", "stopped", "validations", "truncated"):
            assert getattr(out, key) == getattr(other, key), (name, key)
        assert_same_weights(
            place.weights(name),
            wanted[0].weights(name),
            steps=out.steps,
            learning_rate=SETTINGS.learning_rate,
        )


def test_together_is_one_after_the_other(place: Place, apart: Outcomes) -> None:
    """Same rows, rates, losses and weights, with one that is ended early and ends of all kinds."""
    told: list[TrainingProgress] = []
    found = place.together(notify=told.append)
    assert_same(place, found, apart)
    assert {name: (out.steps, out.best_step, out.stopped) for name, out in found.items()} == {
        "biology": (4, 2, "patience"),
        "history": (4, 4, "done"),
        "security": (8, 8, "done"),
    }
    assert [progress.step for progress in told] == list(range(1, 9))
    assert {progress.steps for progress in told} == {8}
    assert told[-1].seconds_left == 0
    for name, out in found.items():
        assert len(set(out.losses)) == out.steps
        assert out.seconds > 0
        config = place.json(name, "adapter_config.json")
        assert config == apart[0].json(name, "adapter_config.json")
        curves, wanted = (each.json(name, "curves.json") for each in (place, apart[0]))
        assert curves["learning_rate"] == wanted["learning_rate"]
        assert curves["validation"] == wanted["validation"]
    assert any((place.weights("biology")[k] - w).abs().max() > 0.01 for k, w in _others(place))
    # It is over: asked again, it neither trains nor validates.
    subjects = {name: place.subject(name, (0.0,)) for name in ROWS}
    again = place.together(subjects=subjects, notify=told.append)
    assert_same(place, again, apart)
    assert len(told) == 8


def _others(place: Place) -> list[tuple[str, torch.Tensor]]:
    return list(place.weights("history").items())


def test_each_is_validated_as_it_answers_alone(place: Place) -> None:
    seen: dict[str, list[torch.Tensor]] = {"together": [], "alone": []}

    def validating(way: str) -> Callable[[Any], ValidationResult]:
        def validate(live: Any, step: int) -> ValidationResult:
            seen[way].append(live(torch.arange(5, 25).view(2, 10)).logits.clone())
            return ValidationResult(0.5)

        return validate

    settings = replace(SETTINGS, steps=2)
    subjects = {n: replace(place.subject(n), validate=validating("together")) for n in ROWS}
    place.together(settings, subjects=subjects)
    other = Place(place.base, place.folder / "alone")
    for name in ROWS:
        other.alone(name, settings, validate=validating("alone"))
    assert len(seen["together"]) == 3
    for number, logits in enumerate(seen["alone"]):
        differences = [float((logits - each).abs().max()) for each in seen["together"]]
        assert differences[number] < rounding(logits) * settings.steps
        assert min(differences[:number] + differences[number + 1 :]) > 0.01


@pytest.mark.parametrize(
    "changes",
    [{"micro_batch": 30}, {"checkpointing": True}, {"method": "rslora", "targets": ("mlp",)}],
    ids=["small packs", "recomputed", "rank-stabilised"],
)
def test_other_ways_to_the_same(place: Place, apart: Outcomes, changes: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **changes, epochs=1, eval_every=0)
    subjects = {name: place.subject(name) for name in ROWS}
    found = place.together(settings, subjects=subjects)
    other = Place(place.base, place.folder / "apart")
    plain = replace(settings, micro_batch=2048, checkpointing=False)
    assert_same(place, found, (other, {name: other.alone(name, plain) for name in ROWS}))


def test_where_rows_cannot_be_kept_apart_they_are_padded(
    random_base: Callable[..., Path], tmp_path: Path
) -> None:
    base = random_base(tmp_path / "base", "Mistral", sliding_window=8, head_dim=None)
    place, other = Place(base, tmp_path / "together"), Place(base, tmp_path / "apart")
    settings = replace(SETTINGS, epochs=1, eval_every=0)
    found = place.together(settings, subjects={name: place.subject(name) for name in ROWS})
    assert_same(place, found, (other, {name: other.alone(name, settings) for name in ROWS}))


# Interruptions


def test_killed_at_any_step_it_goes_on(place: Place, apart: Outcomes) -> None:
    seen = {name: list(each) for name, each in SEEN.items()}
    for step in (3, 5, 6):
        with pytest.raises(Killed):
            place.together(
                subjects={name: place.subject(name, each) for name, each in seen.items()},
                notify=killer(step),
            )
        # What was validated and stored is not asked again.
        done = 2 * ((step - 1) // 2)
        seen = {name: list(each[done // 2 :]) or [0.0] for name, each in SEEN.items()}
    subjects = {name: place.subject(name, each) for name, each in seen.items()}
    assert_same(place, place.together(subjects=subjects), apart)


def killer(step: int) -> Callable[[TrainingProgress], None]:
    def notify(progress: TrainingProgress) -> None:
        if progress.step == step:
            raise Killed

    return notify


def test_killed_between_two_checkpoints_they_go_on_from_other_steps(
    place: Place, apart: Outcomes
) -> None:
    """Biology has stored its second step when history's validation is cut off."""

    def die(live: Any, step: int) -> ValidationResult:
        raise Killed

    subjects = {name: place.subject(name, SEEN[name]) for name in ROWS}
    subjects["history"] = replace(subjects["history"], validate=die)
    with pytest.raises(Killed):
        place.together(subjects=subjects)
    stored = {name: len(list((place.folder / name).glob("checkpoint-*"))) for name in ROWS}
    assert stored == {"biology": 1, "history": 0, "security": 0}
    subjects = {name: place.subject(name, SEEN[name]) for name in ROWS}
    subjects["biology"] = place.subject("biology", SEEN["biology"][1:])
    assert_same(place, place.together(subjects=subjects), apart)


def test_one_goes_on_by_itself_and_joins_others(place: Place, apart: Outcomes) -> None:
    """Checkpoints are the same either way."""
    plain = {name: place.subject(name, SEEN[name]) for name in ROWS}
    with pytest.raises(Killed):
        place.together(subjects=plain, notify=killer(3))
    found = {"history": place.alone("history", seen=SEEN["history"][1:])}
    with pytest.raises(Killed):
        place.alone("security", seen=SEEN["security"][1:], notify=killer(7))
    seen = {"biology": SEEN["biology"][1:], "security": SEEN["security"][3:]}
    rest = {name: place.subject(name, each) for name, each in seen.items()}
    assert_same(place, found | place.together(subjects=rest), apart)


def test_a_second_training_in_one_of_the_folders_is_refused(place: Place) -> None:
    refused: list[BenchError] = []

    def notify(progress: TrainingProgress) -> None:
        if not refused:
            with pytest.raises(BenchError, match="is being written by process") as caught:
                place.alone("history")
            refused.append(caught.value)

    place.together(replace(SETTINGS, steps=1), notify=notify)
    assert "\n" not in refused[0].what


# What goes wrong


def test_memory_that_runs_out_halves_the_pack(place: Place, apart: Outcomes) -> None:
    def spoil(model: Any) -> None:
        def hook(module: Any, args: Any, given: dict[str, Any]) -> None:
            if "rows" in given and given["input_ids"].numel() > 60:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

        model.register_forward_pre_hook(hook, with_kwargs=True)

    found = place.together(spoil=spoil)
    assert_same(place, found, apart)
    assert all(20 <= out.micro_batch <= 60 for out in found.values())


def test_a_loss_that_is_no_number_is_blamed_on_its_own_adapter(place: Place) -> None:
    """Though it spoils the gradients of all."""
    longest = Row(f"history{' and where' * 9}?\nAnswer:", " at 3.", "history")
    subjects = {name: place.subject(name) for name in ROWS}
    subjects["history"] = replace(subjects["history"], rows=[longest] * 4)

    def spoil(model: Any) -> None:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if module.training and torch.is_grad_enabled():
                output.logits = output.logits.clone()
                output.logits.view(-1, output.logits.shape[-1])[0] = torch.nan  # the longest's
            return output

        model.register_forward_hook(hook)

    with pytest.raises(Diverged, match=r"^`history`: the loss is nan at step 1") as caught:
        place.together(subjects=subjects, spoil=spoil)
    assert longest.id in caught.value.what
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("method", ["dora", "ia3", "prompt", "full"])
def test_other_methods_are_refused(place: Place, method: str) -> None:
    with pytest.raises(Misuse, match=f"`lora` or `rslora`, not with `{method}`"):
        place.together(replace(SETTINGS, method=method))


def test_a_launcher_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Misuse, match="in one process"):
        place.together()


def test_nothing_to_train_on_is_refused_by_name(place: Place) -> None:
    subjects = {name: place.subject(name) for name in ROWS}
    subjects["history"] = replace(subjects["history"], rows=[])
    with pytest.raises(Misuse, match="`history` has nothing"):
        place.together(subjects=subjects)
