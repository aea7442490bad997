from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import Misuse
from engines.base import Mode, Prompt, Request
from engines.registry import tiny_folder
from tests.helpers.tolerance import logprob_tolerance

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

OPTIONS = (" yes", " no, maybe")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_folder())


@pytest.fixture(scope="module")
def fresh(tokenizer: Any) -> Callable[[], Any]:
    """The same small random model each time."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    def make() -> Any:
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
        )
        return Qwen2ForCausalLM(config).eval()

    return make


def saved(model: Any, config: Any, folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(model, config)
    for name, weights in wrapped.named_parameters():
        if "lora_" in name or "ia3_" in name:
            torch.nn.init.normal_(weights, std=0.3)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(fresh: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    plain = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    scaled = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], use_rslora=True)
    return {
        "plain": saved(fresh(), plain, root / "plain", 1),
        "scaled": saved(fresh(), scaled, root / "scaled", 2),
    }


def request(number: int, adapter: str | None) -> Request:
    prompt = Prompt(text=f"Question: what is {number}?\nAnswer:", adapter=adapter)
    return Request(f"{adapter}-{number}", Mode.CLOZE, prompt, OPTIONS)


def merged(fresh: Any, folder: Path | None) -> Any:
    model = fresh()
    if folder is None:
        return model
    return peft.PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval()


def test_each_question_is_answered_with_its_own_adapter(
    fresh: Any, tokenizer: Any, adapters: dict[str, Path]
) -> None:
    from engines.local.engine import TransformersEngine

    engine = TransformersEngine(fresh(), tokenizer, name="x", digest="d")
    for name, folder in adapters.items():
        engine.add_adapter(name, folder)
    names = [None, "plain", "scaled"]
    asked = [request(number, name) for number in range(4) for name in names]
    found = {answer.id: answer.logprobs for answer in engine.answer(asked)}
    for name in names:
        alone = TransformersEngine(
            merged(fresh, adapters.get(name or "")), tokenizer, name="x", digest="d"
        )
        plain = [request(number, None) for number in range(4)]
        expected = {a.id.split("-")[1]: a.logprobs for a in alone.answer(plain)}
        for number in range(4):
            wanted = expected[str(number)]
            assert found[f"{name}-{number}"] == pytest.approx(
                wanted, rel=0, abs=logprob_tolerance(wanted)
            )
    spread = {round(found[f"{name}-0"][0], 3) for name in names}
    assert len(spread) == 3


def test_the_base_model_is_what_it_was_before(
    fresh: Any, tokenizer: Any, adapters: dict[str, Path]
) -> None:
    from engines.local.engine import TransformersEngine

    engine = TransformersEngine(fresh(), tokenizer, name="x", digest="d")
    before = next(iter(engine.answer([request(1, None)]))).logprobs
    engine.add_adapter("plain", adapters["plain"])
    assert next(iter(engine.answer([request(1, None)]))).logprobs == before
    list(engine.answer([request(1, "plain")]))
    assert next(iter(engine.answer([request(1, None)]))).logprobs == before


def test_generation_uses_the_adapter_too(
    fresh: Any, tokenizer: Any, adapters: dict[str, Path]
) -> None:
    from engines.local.engine import TransformersEngine

    engine = TransformersEngine(fresh(), tokenizer, name="x", digest="d")
    engine.add_adapter("plain", adapters["plain"])
    alone = TransformersEngine(merged(fresh, adapters["plain"]), tokenizer, name="x", digest="d")
    prompt = "Question: what?\nAnswer:"
    asked = Request("a", Mode.GENERATE, Prompt(text=prompt, adapter="plain"), max_tokens=8)
    plain = Request("a", Mode.GENERATE, Prompt(text=prompt), max_tokens=8)
    assert next(iter(engine.answer([asked]))).text == next(iter(alone.answer([plain]))).text


@pytest.mark.parametrize("fault", ["missing", "pickled", "other model"])
def test_what_is_no_adapter_of_this_model_is_refused(
    fresh: Any, tokenizer: Any, adapters: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    from engines.local.engine import TransformersEngine

    folder = tmp_path / "adapter"
    if fault == "pickled":
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.bin").write_bytes(b"a pickle")
    if fault == "other model":
        from transformers import Qwen2Config, Qwen2ForCausalLM

        sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
        other = Qwen2ForCausalLM(
            Qwen2Config(vocab_size=64, num_hidden_layers=2, intermediate_size=32, **sizes)
        )
        saved(other, peft.LoraConfig(r=4, target_modules="all-linear"), folder, 1)
    engine = TransformersEngine(fresh(), tokenizer, name="x", digest="d")
    with pytest.raises(Misuse):
        engine.add_adapter("x", folder)
    with pytest.raises(Misuse, match="not loaded"):
        list(engine.answer([request(1, "x")]))


def test_trained_prompts_are_refused_in_one_line(
    fresh: Any, tokenizer: Any, tmp_path: Path
) -> None:
    from engines.local.engine import TransformersEngine

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    saved(fresh(), config, tmp_path, 1)
    with pytest.raises(Misuse, match="is trained prompts") as caught:
        TransformersEngine(fresh(), tokenizer, name="x", digest="d").add_adapter("soft", tmp_path)
    assert caught.value.hint == "train it with `method: lora`"
