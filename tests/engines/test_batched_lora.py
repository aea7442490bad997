"""Questions of several adapters in one batch, against PEFT with one adapter at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import Mode, Prompt, Request
from engines.local.engine import TransformersEngine
from engines.local.prefix_tree import PromptItem, trie_size
from engines.registry import tiny_folder
from tests.helpers.bfloat16 import needs_bfloat16
from tests.helpers.tolerance import logprob_tolerance

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

OPTIONS = (" yes", " no, maybe")
BLOCK = "A line that all questions have before them, of some length. " * 4
#: Different ranks, scales and layers; in one of them the rank differs from layer to layer.
PLAIN: dict[str, dict[str, Any]] = {
    "wide": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
    "root": {"r": 2, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "down": {"r": 3, "lora_alpha": 1, "target_modules": ["down_proj"]},
    "uneven": {
        "r": 2,
        "target_modules": ["k_proj", "up_proj"],
        "rank_pattern": {"up_proj": 5},
        "alpha_pattern": {"up_proj": 3},
    },
}
#: What has more than that.
MORE: dict[str, dict[str, Any]] = {
    "dora": {"r": 2, "target_modules": ["q_proj"], "use_dora": True},
    "biased": {"r": 2, "target_modules": ["q_proj"], "bias": "lora_only"},
    "own bias": {"r": 2, "target_modules": ["q_proj"], "lora_bias": True},
    "whole": {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["norm"]},
    "head": {"r": 2, "target_modules": ["q_proj", "lm_head"]},
    "words": {"r": 2, "target_modules": ["q_proj", "embed_tokens"]},
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_folder())


def build(tokenizer: Any, kind: str = "Qwen2", **more: Any) -> Any:
    """The same small random model each time."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.1,
            "tie_word_embeddings": False,
            **more,
        }
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def saved(model: Any, config: Any, folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(model, config)
    for name, weights in wrapped.named_parameters():
        if any(part in name for part in ("lora_", "ia3_", "modules_to_save")):
            torch.nn.init.normal_(weights, std=0.2)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: saved(build(tokenizer), peft.LoraConfig(**config), root / name, seed)
        for seed, (name, config) in enumerate({**PLAIN, **MORE}.items())
    }


def engine_of(
    model: Any, tokenizer: Any, adapters: dict[str, Path], names: Sequence[str], **more: Any
) -> TransformersEngine:
    engine = TransformersEngine(model, tokenizer, name="x", digest="d", **more)
    for name in names:
        engine.add_adapter(name, adapters[name])
    return engine


def asked(names: Sequence[str | None], block: str = "", words: int = 1) -> list[Request]:
    """A question for each of these adapters."""
    return [
        Request(
            str(number),
            Mode.CLOZE,
            Prompt(
                f"{block}Question: what is {number * 7}?{' why' * words}\nAnswer:", adapter=name
            ),
            OPTIONS,
        )
        for number, name in enumerate(names)
    ]


def alone(
    make: Callable[[], Any], tokenizer: Any, adapters: dict[str, Path], requests: list[Request]
) -> dict[str, tuple[float, ...]]:
    """Log-probabilities from ordinary passes of PEFT's own model, an adapter and option each."""
    found: dict[str, tuple[float, ...]] = {}
    for name in {request.prompt.adapter for request in requests}:
        model = make()
        if name is not None:
            model = peft.PeftModel.from_pretrained(model, str(adapters[name])).eval()
        for request in requests:
            if request.prompt.adapter == name:
                found[request.id] = tuple(
                    _plain(model, tokenizer, request.prompt.text, option)
                    for option in request.options
                )
    return found


def _plain(model: Any, tokenizer: Any, prompt: str, option: str) -> float:
    start = len(tokenizer(prompt)["input_ids"])
    ids = tokenizer(prompt + option)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(float(logits[i - 1, ids[i]]) for i in range(start, len(ids)))


def answers(engine: TransformersEngine, requests: list[Request]) -> dict[str, tuple[float, ...]]:
    found = {answer.id: answer.logprobs for answer in engine.answer(requests)}
    assert sorted(found) == sorted(request.id for request in requests)
    return found


def passes(engine: TransformersEngine) -> list[int]:
    """The number of tokens of each pass from now on."""
    sizes: list[int] = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        sizes.append(kwargs["input_ids"].numel())

    engine.model.register_forward_pre_hook(count, with_kwargs=True)
    return sizes


def least(engine: TransformersEngine, requests: list[Request]) -> int:
    """The nodes of each adapter's own trie, added up."""
    names = list({request.prompt.adapter for request in requests})
    items = [
        PromptItem(
            key,
            tuple(engine.tokenizer(request.prompt.text)["input_ids"]),
            tuple(tuple(engine.tokenizer(o)["input_ids"]) for o in request.options),
            names.index(request.prompt.adapter),
        )
        for key, request in enumerate(requests)
    ]
    return trie_size(items)


def near(
    found: dict[str, tuple[float, ...]],
    wanted: dict[str, tuple[float, ...]],
    dtype: str = "float32",
) -> bool:
    """Equal but for rounding."""
    return all(
        found[key] == pytest.approx(expected, rel=0, abs=logprob_tolerance(expected, dtype))
        for key, expected in wanted.items()
    )


# Few tokens for each adapter go through the masked product, many through pieces.
@pytest.mark.parametrize("words", [1, 80])
def test_one_pass_for_all_gives_what_each_adapter_gives_alone(
    tokenizer: Any, adapters: dict[str, Path], words: int
) -> None:
    engine = engine_of(build(tokenizer), tokenizer, adapters, list(PLAIN), batch_tokens=4096)
    requests = asked([None, *PLAIN, *reversed(PLAIN)], words=words)
    answers(engine, requests[:2])  # the adapters are put together
    sizes = passes(engine)
    found = answers(engine, requests)
    assert len(sizes) == 1
    assert near(found, alone(lambda: build(tokenizer), tokenizer, adapters, requests))


def test_prefixes_are_shared_within_each_adapter_and_nothing_is_computed_twice(
    tokenizer: Any, adapters: dict[str, Path]
) -> None:
    engine = engine_of(build(tokenizer), tokenizer, adapters, list(PLAIN), batch_tokens=4096)
    requests = asked([*PLAIN, None] * 6, BLOCK)
    found = answers(engine, requests)
    assert engine.forward_tokens == least(engine, requests)
    assert near(found, alone(lambda: build(tokenizer), tokenizer, adapters, requests))


def test_a_large_group_keeps_its_prefix_while_small_ones_share_a_batch(
    tokenizer: Any, adapters: dict[str, Path]
) -> None:
    engine = engine_of(build(tokenizer), tokenizer, adapters, list(PLAIN), batch_tokens=100)
    few = asked(["root", "down", None, "down"])
    many = [
        Request(f"many {r.id}", r.mode, r.prompt, r.options) for r in asked(["wide"] * 12, BLOCK)
    ]
    answers(engine, few)
    before, sizes = engine.forward_tokens, passes(engine)
    found = answers(engine, few + many)
    assert engine.forward_tokens - before == least(engine, few + many)
    assert sizes[0] == least(engine, few)
    assert near(found, alone(lambda: build(tokenizer), tokenizer, adapters, few + many))


@pytest.fixture(scope="module")
def ready(
    tokenizer: Any, adapters: dict[str, Path]
) -> tuple[TransformersEngine, dict[tuple[str, str | None], tuple[float, ...]]]:
    """An engine, and its answers to 8 questions with each adapter one at a time."""
    engine = engine_of(build(tokenizer), tokenizer, adapters, list(PLAIN), batch_tokens=120)
    single = {
        (request.id, name): answers(engine, [request])[request.id]
        for name in (None, *PLAIN)
        for request in asked([name] * 8, BLOCK)
    }
    return engine, single


@settings(max_examples=25)
@given(st.lists(st.sampled_from([None, *PLAIN]), min_size=1, max_size=8))
def test_the_answer_does_not_depend_on_who_is_asked_beside(
    ready: tuple[TransformersEngine, dict[tuple[str, str | None], tuple[float, ...]]],
    names: list[str | None],
) -> None:
    engine, single = ready
    requests = asked(names, BLOCK)
    wanted = {r.id: single[r.id, r.prompt.adapter] for r in requests}
    assert near(answers(engine, requests), wanted)


@pytest.mark.parametrize("name", MORE)
def test_more_than_plain_lora_is_asked_by_itself(
    tokenizer: Any, adapters: dict[str, Path], name: str
) -> None:
    engine = engine_of(build(tokenizer), tokenizer, adapters, ["wide", "root"])
    answers(engine, asked(["wide", "root"]))
    engine.add_adapter(name, adapters[name])
    sizes = passes(engine)
    requests = asked(["wide", name, "root", name])
    found = answers(engine, requests)
    assert len(sizes) == 3  # one to see that the layers know their tokens
    assert near(found, alone(lambda: build(tokenizer), tokenizer, adapters, requests))


def test_layers_that_see_other_tokens_make_adapters_take_turns(
    tokenizer: Any, tmp_path: Path
) -> None:
    def make() -> Any:
        sizes = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
        return build(tokenizer, "Qwen2Moe", num_experts=4, num_experts_per_tok=2, **sizes)

    names = ["a", "b"]
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"])
    folders = {n: saved(make(), config, tmp_path / n, seed) for seed, n in enumerate(names)}
    engine = engine_of(make(), tokenizer, folders, names)
    requests = asked(["a", "b", None, "a"])
    assert near(answers(engine, requests), alone(make, tokenizer, folders, requests))


def test_memory_that_runs_out_halves_a_batch_of_several_adapters(
    tokenizer: Any, adapters: dict[str, Path]
) -> None:
    engine = engine_of(build(tokenizer), tokenizer, adapters, list(PLAIN), batch_tokens=1000)
    inner = engine.model.forward

    def forward(*args: Any, input_ids: Any, **more: Any) -> Any:
        if input_ids.numel() > 100:
            raise torch.OutOfMemoryError("out of memory")
        return inner(*args, input_ids=input_ids, **more)

    engine.model.forward = forward
    requests = asked([*PLAIN, None] * 4)
    found = answers(engine, requests)
    assert engine.batch_tokens < 1000
    assert near(found, alone(lambda: build(tokenizer), tokenizer, adapters, requests))


def test_adapters_added_later_join_and_replies_are_written_too(
    tokenizer: Any, adapters: dict[str, Path]
) -> None:
    engine = engine_of(build(tokenizer), tokenizer, adapters, ["wide", "root"])
    answers(engine, asked(["wide", "root"]))
    engine.add_adapter("down", adapters["down"])
    requests = asked(["down", "wide", "root", None])
    replies = [
        Request(f"write {name}", Mode.GENERATE, Prompt("Question:", adapter=name), max_tokens=6)
        for name in ("root", "down", None)
    ]
    found = {answer.id: answer for answer in engine.answer([*replies, *requests])}
    wanted = alone(lambda: build(tokenizer), tokenizer, adapters, requests)
    assert near({key: found[key].logprobs for key in wanted}, wanted)
    for reply in replies:
        assert next(iter(engine.answer([reply]))).text == found[reply.id].text


@needs_bfloat16
def test_half_precision_is_as_near_to_peft_as_its_rounding_lets_it(
    tokenizer: Any, adapters: dict[str, Path]
) -> None:
    def make() -> Any:
        return build(tokenizer).to(torch.bfloat16)

    engine = engine_of(make(), tokenizer, adapters, list(PLAIN))
    requests = asked([None, *PLAIN])
    assert near(answers(engine, requests), alone(make, tokenizer, adapters, requests), "bfloat16")
