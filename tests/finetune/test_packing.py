from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from finetune.data.rows import Row
from finetune.training.attention import groups, keeps_apart, rows_apart
from finetune.training.gradients import GradientWorker
from finetune.training.loss import answer_losses
from finetune.training.packing import Pack, PackLimits, best_fit, most_trained, pack_rows, pad_rows
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded
from tests.helpers.tolerance import gradient_tolerance, loss_tolerance, rounding, ulp

Make = Callable[..., Path]
SHAPES = {
    "qwen2": ("Qwen2", {}),
    "llama": ("Llama", {}),
    "llama with one key for all": ("Llama", {"num_key_value_heads": 1}),
    "mistral with a wide window": ("Mistral", {"sliding_window": 64}),
}
WINDOWED = {
    "mistral": ("Mistral", {"sliding_window": 8}),
    "qwen2": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
    ),
}


def rows(lengths: Sequence[tuple[int, int]], seed: int = 0) -> list[Encoded]:
    """Rows of random tokens: (tokens, trained tokens) each."""
    rng = torch.Generator().manual_seed(seed)
    return [
        Encoded(
            tuple(torch.randint(3, 2048, (n,), generator=rng).tolist()),
            n - trained,
            Row(f"prompt {i}", " answer", "biology"),
        )
        for i, (n, trained) in enumerate(lengths)
    ]


SOME = rows([(23, 4), (21, 20), (9, 1), (8, 3), (2, 1), (16, 5)])


@pytest.fixture(scope="module")
def model_of(random_base: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    from transformers import AutoModelForCausalLM

    def make(kind: str, more: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
        folder = random_base(tmp_path_factory.mktemp("shape"), kind, **more)
        return AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="sdpa", dtype=dtype
        ).eval()

    return make


LENGTHS = st.lists(
    st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))),
    min_size=1,
    max_size=25,
)


@given(LENGTHS, st.integers(1, 80), st.integers(1, 40), st.booleans())
def test_bins_hold_every_row_once_and_respect_the_limits(
    lengths: list[tuple[int, int]], tokens: int, trained: int, padding: bool
) -> None:
    examples = rows(lengths)
    found = best_fit(examples, PackLimits(tokens, trained), padding)
    assert sorted(e.row.id for each in found for e in each) == sorted(e.row.id for e in examples)
    for each in found:
        sizes = [len(e.ids) for e in each]
        assert sizes == sorted(sizes, reverse=True)
        if len(each) > 1:
            assert (sizes[0] * len(sizes) if padding else sum(sizes)) <= tokens
            assert sum(e.trained for e in each) <= trained


@given(LENGTHS, st.randoms())
def test_bins_do_not_depend_on_the_order_of_the_rows(
    lengths: list[tuple[int, int]], rng: Any
) -> None:
    examples = rows(lengths)
    mixed = list(examples)
    rng.shuffle(mixed)
    assert best_fit(mixed, PackLimits(60, 30)) == best_fit(examples, PackLimits(60, 30))


def test_halved_limits_end_at_one() -> None:
    limits = PackLimits(5, 3)
    for _ in range(5):
        limits = limits.halved()
    assert limits == PackLimits(1, 1)


@pytest.mark.parametrize(("vocabulary", "positions"), [(2048, 2**15), (2**22, 16), (2**30, 16)])
def test_logits_have_a_bound(vocabulary: int, positions: int) -> None:
    assert most_trained(vocabulary) == positions


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
@hypothesis_settings(max_examples=40)
def test_groups_place_every_position_once(lengths: list[int]) -> None:
    lengths = sorted(lengths, reverse=True)
    found = groups(lengths)
    assert [g.start for g in found[1:]] == [g.stop for g in found[:-1]]
    assert found[-1].stop == sum(lengths)
    for group in found:
        size = group.stop - group.start
        assert group.there[group.back].tolist() == list(range(size))
        assert int(group.real.sum()) == size
        assert len(group.there) == group.shape[0] * group.shape[1]
        assert 0.6 * len(group.there) <= size


def run(model: Any, pack: Pack) -> torch.Tensor:
    out: torch.Tensor = model(
        input_ids=pack.ids, use_cache=False, logits_to_keep=pack.logit_positions, **pack.extra
    ).logits.flatten(0, -2)
    return out


def test_an_agents_turn_is_as_each_of_its_answers_alone(model_of: Any) -> None:
    model = model_of(*SHAPES["qwen2"])
    whole, *others = rows([(20, 15), (9, 3)])
    turn = replace(whole, read=((8, 12), (14, 15)))
    pieces = [replace(whole, ids=whole.ids[:end], prompt_length=start) for start, end in turn.spans]
    with rows_apart(model):
        together = run(model, pack_rows([turn, *others]))[: turn.trained]
    alone = torch.cat([run(model, pad_rows([piece])) for piece in pieces])
    assert torch.allclose(together, alone, rtol=0, atol=rounding(alone))


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_in_one_sequence_are_as_each_alone(model_of: Any, shape: str) -> None:
    model = model_of(*SHAPES[shape])
    assert keeps_apart(model, 64)
    ordered = best_fit(SOME, PackLimits(1000, 1000))[0]
    with rows_apart(model):
        together = run(model, pack_rows(ordered))
    alone = [model(torch.tensor([e.ids])).logits[0, e.prompt_length - 1 : -1] for e in ordered]
    wanted = torch.cat(alone)
    assert torch.allclose(together, wanted, rtol=0, atol=rounding(wanted))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_packed_rows_are_those_of_each_alone(model_of: Any, shape: str) -> None:
    model = model_of(*SHAPES[shape])
    trained = sum(e.trained for e in SOME)
    for each in SOME:
        logits = model(torch.tensor([each.ids])).logits[0, each.prompt_length - 1 : -1]
        loss = cross_entropy(logits, torch.tensor(each.ids[each.prompt_length :]), reduction="sum")
        (loss / trained).backward()
    wanted = {name: weight.grad for name, weight in model.named_parameters()}
    worker = GradientWorker(
        model, TrainingArguments(anchor=False), PackLimits(40, 25), recomputes=False, half=False
    )
    worker.gradients(SOME, trained)
    for name, weight in model.named_parameters():
        tolerance = gradient_tolerance(wanted[name])
        assert torch.allclose(weight.grad, wanted[name], rtol=0, atol=tolerance), name


@pytest.mark.parametrize("shape", WINDOWED)
def test_where_rows_cannot_be_kept_apart_they_are_padded(model_of: Any, shape: str) -> None:
    model = model_of(*WINDOWED[shape])
    assert not keeps_apart(model, 64)
    trained = sum(e.trained for e in SOME)
    with torch.no_grad():
        wanted = sum(
            cross_entropy(
                model(torch.tensor([e.ids])).logits[0, e.prompt_length - 1 : -1],
                torch.tensor(e.ids[e.prompt_length :]),
                reduction="sum",
            )
            for e in SOME
        )
    worker = GradientWorker(
        model, TrainingArguments(anchor=False), PackLimits(60, 60), recomputes=False, half=False
    )
    loss = float(wanted) / trained
    assert worker.gradients(SOME, trained) == pytest.approx(loss, rel=0, abs=loss_tolerance([loss]))


def test_an_attention_that_does_not_know_of_rows_is_noticed(model_of: Any) -> None:
    """In coarse numbers a leak is within the tolerance, and is found all the same."""
    from transformers.models.qwen2 import modeling_qwen2

    model = model_of("Qwen2", {"initializer_range": 0.01}, torch.bfloat16)
    assert keeps_apart(model, 64)
    plain = modeling_qwen2.eager_attention_forward
    for layer in model.model.layers:
        layer.self_attn.forward = _deaf(layer.self_attn, plain)
    assert not keeps_apart(model, 64)


def _deaf(module: Any, plain: Any) -> Any:
    """An attention that looks up no implementation, and sees all that stands before a token."""

    def forward(hidden_states: torch.Tensor, position_embeddings: Any, **_: Any) -> Any:
        from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

        shape = (*hidden_states.shape[:-1], -1, module.head_dim)
        query, key, value = (
            each(hidden_states).view(shape).transpose(1, 2)
            for each in (module.q_proj, module.k_proj, module.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        length = query.shape[2]
        mask = torch.full((length, length), -torch.inf, dtype=query.dtype).triu(1)[None, None]
        out, weights = plain(module, query, key, value, mask, scaling=module.scaling)
        return module.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), weights

    return forward


def test_the_model_attends_as_before_afterwards(model_of: Any) -> None:
    model = model_of("Qwen2", {})
    with pytest.raises(ZeroDivisionError), rows_apart(model):
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"


def test_padded_rows_are_read_where_their_answers_stand() -> None:
    pack = pad_rows(SOME[2:4])
    assert pack.ids.shape == (2, 9)
    assert pack.logit_positions.shape == (2, 9)
    assert pack.logit_positions.nonzero().tolist() == [[0, 7], [1, 4], [1, 5], [1, 6]]
    assert pack.targets.tolist() == [*SOME[2].ids[-1:], *SOME[3].ids[-3:]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("positions", [1, 64, 150])
def test_loss_and_gradient_are_those_of_cross_entropy(dtype: str, positions: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(positions, 300).mul(5).to(getattr(torch, dtype))
    targets = torch.randint(0, 300, (positions,))
    plain = values.clone().requires_grad_()
    wanted = cross_entropy(plain.float(), targets, reduction="sum") / 7
    wanted.backward()
    own = values.clone().requires_grad_()
    # A model's logits come out of a product; their own memory may be written over.
    found = answer_losses(own * 1, targets).sum() / 7
    found.backward()
    assert plain.grad is not None
    assert own.grad is not None
    loss = float(wanted.detach())
    assert float(found.detach()) == pytest.approx(loss, rel=0, abs=loss_tolerance([loss]))
    assert torch.allclose(own.grad, plain.grad, rtol=0, atol=rounding(plain.grad, dtype))


def test_loss_holds_at_extreme_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    loss = answer_losses(logits * 1, torch.tensor([0, 1])).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=0, abs=ulp(1e4))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("lay_out", [pack_rows, pad_rows])
def test_spans_that_are_only_read_have_no_logits(lay_out: Callable[..., Pack]) -> None:
    turns = Encoded(tuple(range(10, 20)), 2, rows([(3, 1)])[0].row, read=((4, 6), (7, 9)))
    assert turns.spans == ((2, 4), (6, 7), (9, 10))
    assert turns.trained == 4
    pack = lay_out([turns, *rows([(5, 2)])])
    at = pack.logit_positions
    before = pack.ids[0][at] if lay_out is pack_rows else pack.ids[at]
    assert pack.targets[:4].tolist() == [12, 13, 16, 19]
    assert before[:4].tolist() == [11, 12, 15, 18]
