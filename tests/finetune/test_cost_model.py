from __future__ import annotations

from typing import Any

import pytest
import transformers
from torch.utils.flop_counter import FlopCounterMode

from finetune.adapters.methods import attach, recompute
from finetune.distributed.process_group import ProcessGroup
from finetune.memory.cost_model import (
    Rates,
    measure_rates,
    pack_flops,
    pack_seconds,
    pass_load,
    predict_cost,
)
from finetune.memory.estimate import dummy_rows, model_sizes
from finetune.training.attention import rows_apart
from finetune.training.loss import answer_losses
from finetune.training.packing import pack_rows
from finetune.training.settings import TrainingArguments

AT = Rates(flops=1e11, traffic=1e10, call=1e-6)
ROWS = [(100, 4)] * 10 + [(60, 2)] * 22


def config(**settings: Any) -> Any:
    shape = {
        "vocab_size": 800,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "tie_word_embeddings": True,
    }
    return transformers.Qwen2Config(**(shape | settings))


def step(live: Any, pack: Any) -> None:
    """Forward and backward."""
    output = live(
        input_ids=pack.ids, use_cache=False, logits_to_keep=pack.logit_positions, **pack.extra
    )
    loss: Any = answer_losses(output.logits.flatten(0, -2), pack.targets).sum()
    loss.backward()


def test_counts_follow_rows_and_settings() -> None:
    settings = TrainingArguments(epochs=3, batch=16, checkpointing=False)
    found = predict_cost(config(), settings, ROWS, "cpu")
    assert found.steps == 6
    assert found.tokens == 3 * (10 * 100 + 22 * 60)
    assert found.trainable == model_sizes(config(), settings).trained
    assert found.seconds > 0
    assert not found.checkpointing


def test_steps_beyond_those_tried_are_carried_forward() -> None:
    found = predict_cost(config(), TrainingArguments(steps=640, batch=4), [(50, 2)] * 4, "cpu")
    assert (found.steps, found.tokens) == (640, 640 * 4 * 50)


def test_of_several_processes_each_takes_a_share() -> None:
    settings = TrainingArguments(epochs=1, checkpointing=False)
    alone, both, parts = (
        predict_cost(
            config(num_hidden_layers=8), settings, ROWS, "cpu", ProcessGroup(0, size), shared=shared
        )
        for size, shared in ((1, False), (2, False), (2, True))
    )
    assert alone.trainable == both.trainable == parts.trainable
    assert both.tokens == parts.tokens == pytest.approx(alone.tokens / 2, rel=0.1)
    assert parts.peak_bytes < both.peak_bytes <= alone.peak_bytes


def test_the_largest_pack_decides_the_memory() -> None:
    def peak(rows: list[tuple[int, int]], **settings: Any) -> int:
        chosen = {"checkpointing": False, **settings}
        return predict_cost(config(), TrainingArguments(**chosen), rows, "cpu").peak_bytes

    small = peak(ROWS, micro_batch=1)
    assert peak([*ROWS, (400, 4)], micro_batch=1) > small
    assert peak(ROWS, micro_batch=800) > small
    assert peak(ROWS, micro_batch=1, checkpointing=True) < small


def test_padded_rows_are_counted_with_their_padding() -> None:
    rows = dummy_rows([(10, 2), (4, 1)])
    assert pass_load(rows).tokens == 14
    assert pass_load(rows, pads=True).tokens == 20
    assert pass_load(rows).squares == 116


def test_rows_are_padded_where_an_architecture_does_not_keep_them_apart() -> None:
    rows = [(100, 4), *[(10, 2)] * 3]
    settings = TrainingArguments(
        steps=1, batch=4, micro_batch=400, max_tokens=128, checkpointing=False
    )
    shape = config().to_dict()
    del shape["layer_types"]
    packed, padded = (
        predict_cost(
            transformers.MistralConfig(**{**shape, "sliding_window": window}), settings, rows, "cpu"
        )
        for window in (128, 64)
    )
    assert (packed.tokens, padded.tokens) == (130, 400)


@pytest.mark.parametrize("again", [False, True])
def test_operations_are_those_that_torch_counts(again: bool) -> None:
    settings = TrainingArguments()
    live = attach(transformers.Qwen2ForCausalLM(config()), settings).train()
    recompute(live, again)
    rows = dummy_rows([(40, 6), (40, 6), (30, 6)])
    pack = pack_rows(rows)
    with FlopCounterMode(display=False) as counter, rows_apart(live):
        step(live, pack)
    said = pack_flops(model_sizes(config(), settings), pass_load(rows), again)
    assert said == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_time_grows_with_tokens_and_with_recomputation() -> None:
    settings = TrainingArguments()
    found = model_sizes(config(), settings)
    short, long = (pass_load(dummy_rows([(n, 4)])) for n in (100, 1000))
    assert pack_seconds(found, short, False, AT) < pack_seconds(found, long, False, AT)
    assert pack_seconds(found, long, False, AT) < pack_seconds(found, long, True, AT)


def test_a_device_is_measured_in_moments() -> None:
    found = measure_rates(model_sizes(config(), TrainingArguments()), "cpu")
    assert 1e8 < found.flops < 1e16
    assert 1e8 < found.traffic < 1e14
    assert 1e-8 < found.call < 1e-2
