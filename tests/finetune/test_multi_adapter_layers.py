from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from domainlift.errors import BenchError, Misuse, NoSuch
from engines.local.loading import load_model
from engines.local.lora_mask import BASE
from finetune.multi_adapter.layers import Joint, split_adapters
from tests.helpers.tolerance import gradient_tolerance, loss_tolerance, rounding

NAMES = ("biology", "history", "security")


@pytest.fixture(scope="module")
def folders(
    base_folder: Path,
    random_adapter: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Three adapters of different ranks, scales and targets."""
    root = tmp_path_factory.mktemp("adapters")
    settings: list[dict[str, Any]] = [
        {"r": 4, "lora_alpha": 8},
        {"r": 2, "lora_alpha": 3, "use_rslora": True},
        {"r": 3, "lora_alpha": 1, "target_modules": ["q_proj", "down_proj"]},
    ]
    return {
        name: random_adapter(root / name, base_folder, seed=seed, **each)
        for seed, (name, each) in enumerate(zip(NAMES, settings, strict=True))
    }


@pytest.fixture
def model(base_folder: Path) -> Any:
    return load_model(str(base_folder), device="cpu")[0]


def loaded(model: Any, folders: dict[str, Path]) -> Joint:
    """The adapters of these folders over one model."""
    configs = {name: peft.LoraConfig.from_pretrained(str(path)) for name, path in folders.items()}
    joint = Joint(model, configs)
    for name, folder in folders.items():
        weights = load_file(folder / "adapter_model.safetensors")
        own = joint.weights(name)
        assert own.keys() == weights.keys()
        for key, target in own.items():
            target.copy_(weights[key])
    return joint


@pytest.fixture
def joint(model: Any, folders: dict[str, Path]) -> Joint:
    return loaded(model, folders)


@pytest.fixture(scope="module")
def alone(base_folder: Path, folders: dict[str, Path]) -> Callable[[str | None], Any]:
    """A model with one adapter only, as PEFT loads it."""

    def make(name: str | None) -> Any:
        model = load_model(str(base_folder), device="cpu")[0]
        if name is None:
            return model
        return peft.PeftModel.from_pretrained(model, str(folders[name]), is_trainable=True)

    return make


def rows(count: int, length: int = 9, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, 2048, (count, length), generator=torch.Generator().manual_seed(seed))


def test_every_row_gets_what_its_own_adapter_gives_alone(
    joint: Joint, alone: Callable[[str | None], Any]
) -> None:
    chosen = ["security", None, "biology", "history", "biology"]
    tokens = rows(len(chosen))
    with torch.no_grad(), joint.using(chosen):
        together = joint.model(tokens).logits
    for row, name in enumerate(chosen):
        with torch.no_grad():
            single = alone(name)(tokens[row : row + 1]).logits[0]
        assert (together[row] - single).abs().max() < rounding(single)


def test_the_adapters_differ(joint: Joint) -> None:
    tokens = rows(1).expand(4, -1)
    with torch.no_grad(), joint.using([*NAMES, None]):
        logits = joint.model(tokens).logits
    for first in range(4):
        for second in range(first):
            assert (logits[first] - logits[second]).abs().max() > 0.1


def test_tokens_of_one_packed_row_take_different_adapters(
    joint: Joint, alone: Callable[[str | None], Any]
) -> None:
    """Two texts in one row, kept apart by their positions, as packing does."""
    tokens = rows(1, 10)
    index = torch.tensor([[0] * 4 + [1] * 6])
    positions = torch.tensor([[*range(4), *range(6)]])
    with torch.no_grad(), joint.using(index):
        packed = joint.model(tokens, position_ids=positions, use_cache=False).logits[0]
    with torch.no_grad():
        first = alone("biology")(tokens[:, :4]).logits[0]
        second = alone("history")(tokens[:, 4:]).logits[0]
    whole = torch.cat([first, second])
    assert (packed - whole).abs().max() < rounding(whole)


def test_the_rows_of_one_adapter_leave_the_gradients_of_another_alone(joint: Joint) -> None:
    def gradients(name: str, tokens: torch.Tensor, chosen: list[str]) -> list[torch.Tensor]:
        for weight in joint.parameters():
            weight.grad = None
        with joint.using(chosen):
            joint.model(tokens).logits[0].logsumexp(-1).sum().backward()
        return [each.clone() for each in joint.gradients(name).values()]

    ours, other = rows(1), rows(3, seed=4)
    alone = gradients("biology", ours, ["biology"])
    mixed = gradients(
        "biology", torch.cat([ours, other]), ["biology", "history", "history", "security"]
    )
    assert max(each.abs().max() for each in alone) > 0
    for one, two in zip(alone, mixed, strict=True):
        assert torch.allclose(one, two, rtol=0, atol=gradient_tolerance(one))
    # A row of another adapter that does count towards the loss gives nothing to this one.
    for weight in joint.parameters():
        weight.grad = None
    with joint.using(["history"]):
        joint.model(ours).logits.logsumexp(-1).sum().backward()
    assert all(not each.any() for each in joint.gradients("biology").values())
    assert any(each.any() for each in joint.gradients("history").values())


def batches(count: int = 20) -> Iterator[dict[str, torch.Tensor]]:
    for step in range(count):
        yield {name: rows(2, 8, seed=100 * n + step % 5) for n, name in enumerate(NAMES[:2])}


def loss_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The mean over one adapter's rows."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def test_training_together_is_training_apart(
    model: Any, folders: dict[str, Path], alone: Callable[[str | None], Any], tmp_path: Path
) -> None:
    joint = loaded(model, {name: folders[name] for name in NAMES[:2]})
    optimiser = torch.optim.AdamW(joint.parameters(), lr=1e-2)
    together: dict[str, list[float]] = {name: [] for name in joint.names}
    for batch in batches():
        optimiser.zero_grad()
        with joint.using([name for name in joint.names for _ in range(2)]):
            logits = joint.model(torch.cat(list(batch.values()))).logits
        parts = dict(zip(joint.names, logits.split(2), strict=True))
        losses = {name: loss_of(parts[name], batch[name]) for name in joint.names}
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        for name, loss in losses.items():
            together[name].append(float(loss.detach()))
    split_adapters(joint, {name: tmp_path / name for name in joint.names})
    for name in joint.names:
        single = alone(name)
        weights = [weight for weight in single.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=1e-2)
        losses_alone = []
        for batch in batches():
            optimiser.zero_grad()
            loss = loss_of(single(batch[name]).logits, batch[name])
            loss.backward()
            optimiser.step()
            losses_alone.append(float(loss.detach()))
        assert together[name] == pytest.approx(
            losses_alone, rel=0, abs=loss_tolerance(losses_alone, len(losses_alone))
        )
        assert losses_alone[-1] < losses_alone[0] - 0.5
        again = peft.PeftModel.from_pretrained(alone(None), str(tmp_path / name))
        tokens = rows(2, seed=9)
        with torch.no_grad():
            found, wanted = again(tokens).logits, single(tokens).logits
        assert (found - wanted).abs().max() < rounding(wanted) * len(losses_alone)


def test_what_is_split_is_what_was_loaded(
    joint: Joint, folders: dict[str, Path], tmp_path: Path
) -> None:
    split_adapters(joint, {name: tmp_path / name for name in NAMES})
    for name, folder in folders.items():
        before = load_file(folder / "adapter_model.safetensors")
        after = load_file(tmp_path / name / "adapter_model.safetensors")
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_fresh_adapters_begin_as_the_base_model(model: Any) -> None:
    tokens = rows(2)
    with torch.no_grad():
        before = model(tokens).logits
    configs = {
        name: peft.LoraConfig(r=rank, lora_alpha=16, target_modules="all-linear")
        for name, rank in (("biology", 2), ("history", 5))
    }
    joint = Joint(model, configs)
    with torch.no_grad(), joint.using(["biology", "history"]):
        assert torch.equal(model(tokens).logits, before)
    assert len(joint.layers) == 14  # the head is none of them
    bounds = {name: max(a.abs().max() for _, a, _ in joint.parts(name)) for name in joint.names}
    assert all(0.05 < bound <= 64**-0.5 for bound in bounds.values())


def test_the_number_of_operations_does_not_grow(
    base_folder: Path, random_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return f(*args, **(kwargs or {}))

    def operations(number: int) -> int:
        model = load_model(str(base_folder), device="cpu")[0]
        configs = {str(n): peft.LoraConfig(r=2, target_modules="all-linear") for n in range(number)}
        joint = Joint(model, configs)
        with torch.no_grad(), joint.using([str(n) for n in range(number)]), Counter() as counter:
            model(rows(number))
        return counter.count

    assert operations(8) == operations(1)


def test_detaching_gives_the_base_model_back(
    joint: Joint, alone: Callable[[str | None], Any]
) -> None:
    tokens = rows(2)
    model = joint.detach()
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, alone(None)(tokens).logits)


def test_nothing_is_computed_without_a_choice(joint: Joint) -> None:
    with pytest.raises(BenchError, match="no adapter is chosen"):
        joint.model(rows(1))
    with joint.using("biology"), joint.using(None):
        joint.model(rows(1))


def test_a_mask_made_in_inference_serves_training(joint: Joint) -> None:
    with joint.using("biology"):
        with torch.inference_mode():
            joint.model(rows(1))
        joint.model(rows(1)).logits.sum().backward()


@pytest.mark.parametrize("index", [torch.tensor([3]), torch.tensor([BASE - 1])])
def test_an_index_out_of_range_is_refused(joint: Joint, index: torch.Tensor) -> None:
    with pytest.raises(Misuse, match="from -1 to 2"), joint.using(index):
        pass


def test_a_name_that_is_none_is_refused(joint: Joint) -> None:
    with pytest.raises(NoSuch, match="biologie"), joint.using("biologie"):
        pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "biases"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": ["embed_tokens"]}, "not a linear layer"),
        ({"lora_dropout": 0.5}, "one `lora_dropout`"),
    ],
)
def test_more_than_plain_lora_is_refused(model: Any, settings: dict[str, Any], said: str) -> None:
    other = peft.LoraConfig(**({"r": 2, "target_modules": ["q_proj"]} | settings))
    with pytest.raises(Misuse, match=said):
        Joint(model, {"a": peft.LoraConfig(r=2, target_modules=["q_proj"]), "b": other})
