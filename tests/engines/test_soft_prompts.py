"""Adapters that are trained prompts, against PEFT's own forward pass over the same small models."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import Misuse
from engines.base import Mode, Prompt, Request, Status
from engines.registry import tiny_folder
from tests.helpers.tolerance import logprob_tolerance

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

WORDS = ("insulin", "pancreas", "hormone", "battle", "rome", "plus", "question", "is", "17", "of")
LETTERS = (" A", " B", " C")
#: Virtual tokens of each trained prompt; not all words see them through the window of Mistral.
VIRTUAL = 5
PROMPTS = ("prompt", "p-tuning", "prefix", "projected")

Fresh = Callable[..., Any]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_folder())


@pytest.fixture(scope="module")
def fresh(tokenizer: Any) -> Fresh:
    """The same small random model each time, of the class that is asked for."""

    def make(kind: str = "Qwen2", **settings: Any) -> Any:
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(
            **{
                "vocab_size": len(tokenizer),
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 512,
                "initializer_range": 0.2,
                "bos_token_id": None,
                "eos_token_id": 0,
                "pad_token_id": 0,
                "attn_implementation": "sdpa",
                **settings,
            }
        )
        return getattr(transformers, f"{kind}ForCausalLM")(config).eval()

    return make


def config_of(method: str, **settings: Any) -> Any:
    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": VIRTUAL, **settings}
    if method == "prompt":
        return peft.PromptTuningConfig(prompt_tuning_init="SAMPLE_VOCAB", **settings)
    if method == "p-tuning":
        return peft.PromptEncoderConfig(encoder_hidden_size=16, **settings)
    if method == "prefix":
        return peft.PrefixTuningConfig(**settings)
    if method == "projected":
        return peft.PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=16, **settings)
    return peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def trained(model: Any, method: str, seed: int = 1, **settings: Any) -> Any:
    """PEFT's live model, with weights that move every answer."""
    torch.manual_seed(seed)
    live = peft.get_peft_model(model, config_of(method, **settings))
    for weights in live.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights, std=0.5)
    return live.eval()


def saved(model: Any, method: str, folder: Path, **settings: Any) -> Path:
    trained(model, method, **settings).save_pretrained(folder)
    return folder


def engine_of(model: Any, tokenizer: Any, **options: Any) -> Any:
    from engines.local.engine import TransformersEngine

    return TransformersEngine(model, tokenizer, name="random", digest="none", **options)


def questions(count: int, adapter: str | None = None, shared: bool = True) -> list[Request]:
    """Questions of both kinds, in groups with a common beginning where it is to be shared."""
    rng = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    blocks = [text(20, 40) + "\n\n" if shared else "" for _ in range(3)]
    found = []
    for n in range(count):
        prompt = Prompt(f"{blocks[n % 3]}{text(1, 15)}\nAnswer:", adapter=adapter)
        options = tuple(" " + text(1, 4) for _ in range(3))
        mode = Mode.LETTER if n % 4 == 0 else Mode.CLOZE
        found.append(Request(str(n), mode, prompt, LETTERS if n % 4 == 0 else options))
    return found


def near(logprobs: Sequence[float]) -> Any:
    """Equal but for rounding."""
    return pytest.approx(logprobs, rel=0, abs=logprob_tolerance(logprobs))


def scores(engine: Any, asked: list[Request]) -> dict[str, tuple[float, ...]]:
    return {answer.id: answer.logprobs for answer in engine.answer(asked)}


def plain_logits(live: Any, ids: list[int]) -> Any:
    """PEFT's own pass; prompt tuning has logits of its virtual tokens before those of the text."""
    with torch.no_grad():
        return live(input_ids=torch.tensor([ids])).logits[0, -len(ids) :]


def plain_scores(live: Any, tokenizer: Any, request: Request) -> list[float]:
    start = len(tokenizer(request.prompt.text)["input_ids"])
    found = []
    for option in request.options:
        ids = tokenizer(request.prompt.text + option)["input_ids"]
        logits = plain_logits(live, ids).log_softmax(-1)
        found.append(sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids))))
    return found


def plain_reply(live: Any, tokenizer: Any, request: Request) -> str:
    ids = tokenizer(request.prompt.text)["input_ids"]
    start = len(ids)
    while len(ids) < start + request.max_tokens and (len(ids) == start or ids[-1] != 0):
        ids.append(int(plain_logits(live, ids)[-1].argmax()))
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.parametrize(
    ("kind", "methods"),
    [("Qwen2", PROMPTS), ("Llama", ("prompt", "prefix")), ("Mistral", ("prompt", "prefix"))],
)
def test_scores_and_replies_are_those_of_peft(
    fresh: Fresh, tokenizer: Any, tmp_path: Path, kind: str, methods: tuple[str, ...]
) -> None:
    for method in methods:
        agrees(fresh, tokenizer, tmp_path / method, kind, method)


def agrees(fresh: Fresh, tokenizer: Any, folder: Path, kind: str, method: str) -> None:
    shares = kind != "Mistral"
    settings = {} if shares else {"sliding_window": 16}
    folder = saved(fresh(kind, **settings), method, folder)
    live = peft.PeftModel.from_pretrained(fresh(kind, **settings), str(folder)).eval()
    engine = engine_of(fresh(kind, **settings), tokenizer, batch_tokens=120)
    assert bool(engine.info.notes) is not shares
    engine.add_adapter("x", folder)
    asked = questions(12, "x", shares)
    found, base = scores(engine, asked), scores(engine, questions(12, None, shares))
    assert max(abs(found[r.id][0] - base[r.id][0]) for r in asked) > 0.1
    for request in asked:
        expected = plain_scores(live, tokenizer, request)
        assert found[request.id] == near(expected)
    written = [Request(r.id, Mode.GENERATE, r.prompt, max_tokens=5) for r in asked[:4]]
    for answer in engine.answer(written):
        assert answer.text == plain_reply(live, tokenizer, written[int(answer.id)])


def test_a_prefix_is_computed_once_after_a_root_too(
    fresh: Fresh, tokenizer: Any, tmp_path: Path
) -> None:
    engine = engine_of(fresh(), tokenizer)
    engine.add_adapter("x", saved(fresh(), "prompt", tmp_path / "adapter"))
    scores(engine, questions(24))
    without = engine.forward_tokens
    scores(engine, questions(24, "x"))
    assert engine.forward_tokens == 2 * without


@pytest.mark.parametrize("order", [("lora", *PROMPTS), ("prefix", "lora", "prompt")])
def test_every_question_is_answered_with_its_own_adapter(
    fresh: Fresh, tokenizer: Any, tmp_path: Path, order: tuple[str, ...]
) -> None:
    engine = engine_of(fresh(), tokenizer)
    before = scores(engine, questions(4))
    for method in order:
        engine.add_adapter(method, saved(fresh(), method, tmp_path / method))
    assert scores(engine, questions(4)) == before
    mixed = [
        Request(f"{name}/{r.id}", r.mode, Prompt(r.prompt.text, adapter=name), r.options)
        for r in questions(4)
        for name in (None, *order)
    ]
    found = scores(engine, mixed)
    for method in order:
        live = peft.PeftModel.from_pretrained(fresh(), str(tmp_path / method)).eval()
        for request in questions(4):
            expected = plain_scores(live, tokenizer, request)
            assert found[f"{method}/{request.id}"] == near(expected)
    for number, expected in before.items():
        assert found[f"None/{number}"] == near(expected)
    assert scores(engine, questions(4)) == before


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_a_name_given_again_is_the_new_adapter(
    fresh: Fresh, tokenizer: Any, tmp_path: Path, method: str
) -> None:
    engine = engine_of(fresh(), tokenizer)
    engine.add_adapter("x", saved(fresh(), "lora", tmp_path / "lora"))
    scores(engine, questions(2, "x"))
    engine.add_adapter("x", saved(fresh(), method, tmp_path / method))
    live = peft.PeftModel.from_pretrained(fresh(), str(tmp_path / method)).eval()
    found = scores(engine, questions(2, "x"))
    for request in questions(2):
        expected = plain_scores(live, tokenizer, request)
        assert found[request.id] == near(expected)


class TestMemory:
    """A model for which memory runs out above a number of positions, those before counted."""

    @staticmethod
    def bounded(model: Any, limit: int) -> None:
        inner = model.forward

        def forward(*args: Any, input_ids: Any, past_key_values: Any, **settings: Any) -> Any:
            if input_ids.shape[1] + past_key_values.get_seq_length() > limit:
                raise torch.OutOfMemoryError("out of memory")
            return inner(*args, input_ids=input_ids, past_key_values=past_key_values, **settings)

        model.forward = forward

    def test_batches_are_halved_and_the_root_stays(
        self, fresh: Fresh, tokenizer: Any, tmp_path: Path
    ) -> None:
        model, folder = fresh(), saved(fresh(), "prefix", tmp_path / "adapter")
        engine = engine_of(model, tokenizer, batch_tokens=2000)
        engine.add_adapter("x", folder)
        asked = questions(24, "x")
        written = [Request(r.id, Mode.GENERATE, r.prompt, max_tokens=4) for r in asked]
        expected = scores(engine, asked)
        replies = {a.id: a.text for a in engine.answer(written)}
        self.bounded(model, 200)
        found = scores(engine, asked)
        assert engine.batch_tokens < 500
        assert found.keys() == expected.keys()
        for number, logprobs in found.items():
            assert logprobs == near(expected[number])
        assert {a.id: a.text for a in engine.answer(written)} == replies

    def test_a_batch_counts_the_root(self, fresh: Fresh, tokenizer: Any, tmp_path: Path) -> None:
        folder = saved(fresh(), "prompt", tmp_path / "adapter", num_virtual_tokens=60)
        model = fresh()
        engine = engine_of(model, tokenizer, batch_tokens=130)
        engine.add_adapter("x", folder)
        self.bounded(model, 130)
        assert len(scores(engine, questions(24, "x", shared=False))) == 24
        assert engine.batch_tokens == 130


def test_a_prompt_is_measured_with_its_root(fresh: Fresh, tokenizer: Any, tmp_path: Path) -> None:
    engine = engine_of(fresh(max_position_embeddings=32), tokenizer)
    engine.add_adapter("x", saved(fresh(), "prefix", tmp_path / "adapter", num_virtual_tokens=30))
    for mode in (Mode.CLOZE, Mode.GENERATE):
        asked = [
            Request(str(name), mode, Prompt("insulin", adapter=name), (" of rome",), max_tokens=4)
            for name in ("x", None)
        ]
        found = {answer.id: answer for answer in engine.answer(asked)}
        assert found["x"].status is Status.TRUNCATED
        assert "context of 32" in found["x"].error
        assert found["None"].status is Status.OK


@pytest.mark.parametrize("method", [*PROMPTS, "lora"])
def test_a_live_model_is_asked_as_it_is_now(fresh: Fresh, tokenizer: Any, method: str) -> None:
    model = fresh()
    engine = engine_of(model, tokenizer)
    before = scores(engine, questions(6))
    live = trained(model, method)
    for _ in range(2):
        with engine.answering_with(live), torch.no_grad():
            found = scores(engine, questions(6))
        for request in questions(6):
            expected = plain_scores(live, tokenizer, request)
            assert found[request.id] == near(expected)
        with torch.no_grad():  # a step of training
            for weights in live.parameters():
                if weights.requires_grad:
                    weights.mul_(0.5)
    engine.close()
    assert (scores(engine, questions(6)) == before) is (method != "lora")


def test_adapters_answer_beside_a_live_model(fresh: Fresh, tokenizer: Any, tmp_path: Path) -> None:
    model = fresh()
    engine = engine_of(model, tokenizer)
    engine.add_adapter("x", saved(fresh(), "prefix", tmp_path / "adapter"))
    base, other = scores(engine, questions(2)), scores(engine, questions(2, "x"))
    live = trained(model, "prompt", seed=2)
    with engine.answering_with(live):
        seen = scores(engine, questions(2))
        assert scores(engine, questions(2, "x")) == other
        assert scores(engine, questions(2)) == seen != base
    assert scores(engine, questions(2)) == base


@pytest.mark.parametrize("method", ["prompt", "prefix"])
@pytest.mark.parametrize(
    "other",
    [
        {"hidden_size": 16},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 4},
        {"hidden_size": 64, "num_key_value_heads": 1},
    ],
)
def test_prompts_of_another_model_are_refused_in_one_line(
    fresh: Fresh, tokenizer: Any, tmp_path: Path, method: str, other: Any
) -> None:
    folder = saved(fresh(**other), method, tmp_path / "adapter")
    engine = engine_of(fresh(), tokenizer)
    before = scores(engine, questions(2))
    with pytest.raises(Misuse, match="does not fit the model") as refused:
        engine.add_adapter("x", folder)
    assert "\n" not in refused.value.what
    assert scores(engine, questions(2)) == before


def test_a_kind_that_depends_on_more_than_the_text_is_refused(
    fresh: Fresh, tokenizer: Any, tmp_path: Path
) -> None:
    config = peft.MultitaskPromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL, num_tasks=2
    )
    peft.get_peft_model(fresh(), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(Misuse, match="MULTITASK_PROMPT_TUNING"):
        engine_of(fresh(), tokenizer).add_adapter("x", tmp_path / "adapter")
