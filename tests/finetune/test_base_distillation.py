from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from finetune.adapters.methods import attach, detach, trainable  # noqa: E402
from finetune.data.rows import Row  # noqa: E402
from finetune.training.base_distillation import KEPT  # noqa: E402
from finetune.training.gradients import GradientWorker  # noqa: E402
from finetune.training.loss import answer_losses  # noqa: E402
from finetune.training.packing import PackLimits  # noqa: E402
from finetune.training.settings import TrainingArguments  # noqa: E402
from finetune.training.tokenize import Encoded  # noqa: E402
from tests.helpers.tolerance import gradient_tolerance, loss_tolerance  # noqa: E402

LIMITS = PackLimits(200, 200)


def example(ids: tuple[int, ...], start: int, kind: str) -> Encoded:
    return Encoded(ids, start, Row("p", "c", "d", kind=kind))


OLD = [example((5, 6, 7, 8, 9), 3, "replay"), example((9, 8, 7), 1, "replay")]
NEW = [example((1, 2, 3, 4), 2, "question"), example((30, 31, 32, 33, 34, 35), 4, "question")]


@pytest.fixture
def live(base_folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder)
    live = attach(model, TrainingArguments(rank=4)).train()
    yield live
    detach(live)


def worker(live, **settings) -> GradientWorker:
    return GradientWorker(
        live, TrainingArguments(rank=4, **settings), LIMITS, recomputes=False, half=False
    )


def near(loss: float):
    """Equal but for rounding."""
    return pytest.approx(loss, rel=0, abs=loss_tolerance([loss]))


def moved(live) -> None:
    """An adapter that has learned something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in trainable(live).values():
            weight.add_(torch.randn_like(weight) * 0.05)


def test_shares_of_one_token_are_that_token() -> None:
    torch.manual_seed(0)
    logits = torch.randn(90, 40)
    targets = torch.randint(0, 40, (90,))
    weights = torch.rand(90)
    found = []
    for given in ((targets,), (torch.stack([targets, targets * 0], 1), torch.tensor([[1.0, 0.0]]))):
        one = logits.clone().requires_grad_(True)
        shares = [given[1].expand(90, 2)] if len(given) > 1 else []
        losses = answer_losses(one * 1, given[0], *shares)
        (losses * weights).sum().backward()
        found.append((losses.detach(), one.grad))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("kept", [40, 7])
def test_the_loss_is_the_divergence_that_torch_finds(kept: int) -> None:
    torch.manual_seed(0)
    base, now = torch.randn(70, 40).log_softmax(-1), torch.randn(70, 40)
    shares, tokens = base.exp().topk(kept)
    ours, theirs = now.clone().requires_grad_(True), now.clone().requires_grad_(True)
    found = answer_losses(ours * 1, tokens, shares)
    probs = theirs.softmax(-1).gather(1, tokens)
    wanted = (shares * (shares.log() - probs.log())).sum(-1)
    if kept < 40:
        rest = 1 - shares.sum(-1)
        wanted = wanted + rest * (rest.log() - (1 - probs.sum(-1)).log())
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert found.min() > 0


def test_known_rows_teach_a_fresh_adapter_nothing(live) -> None:
    losses, largest = [], []
    for anchor in (True, False):
        losses.append(worker(live, anchor=anchor).gradients(OLD, 4))
        largest.append(max(float(w.grad.abs().max()) for w in trainable(live).values()))
    assert losses[1] > 1
    assert losses[0] == pytest.approx(0, abs=loss_tolerance(losses[1:]))
    assert largest[0] < gradient_tolerance(largest[1:])


def test_known_rows_pull_a_moved_adapter_back(live) -> None:
    moved(live)
    at_work = worker(live)
    optimiser = torch.optim.SGD(trainable(live).values(), lr=0.3)
    losses = []
    for _ in range(20):
        losses.append(at_work.gradients(OLD, 4))
        optimiser.step()
    assert losses[0] > 0.01
    assert losses[-1] < losses[0] / 3


def test_new_rows_beside_known_ones_have_their_own_loss(live) -> None:
    moved(live)
    at_work = worker(live)
    both = at_work.gradients([*NEW, *OLD], 1)
    new, old = at_work.gradients(NEW, 1), at_work.gradients(OLD, 1)
    assert both == near(new + old)
    assert new == near(worker(live, anchor=False).gradients(NEW, 1))


def test_the_base_is_asked_once_for_each_known_row(live) -> None:
    at_work = worker(live)
    asked: list[int] = []
    ask = at_work._base_logits

    def counted(examples):
        asked.append(len(examples))
        return ask(examples)

    at_work._distillation._base_logits = counted
    at_work.gradients([*NEW, OLD[0]], 1)
    at_work.gradients([*OLD, OLD[0]], 1)
    at_work.gradients(OLD, 1)
    assert asked == [1, 1]


def test_the_adapter_is_on_again_after_the_base_was_asked(live) -> None:
    moved(live)
    at_work = worker(live)
    at_work.gradients(OLD, 1)
    with torch.no_grad():
        one = live(input_ids=torch.tensor([[1, 2, 3]])).logits
        with live.disable_adapter():
            base = live(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert (one - base).abs().max() > 1e-3
    assert all(weight.grad is not None for weight in trainable(live).values())
    assert live.config.vocab_size > KEPT
