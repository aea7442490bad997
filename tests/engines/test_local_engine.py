"""The in-process engine against plain forward passes of small random models of true classes."""

import math
import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from domainlift.errors import BenchError, Misuse  # noqa: E402
from engines.base import Message, Mode, Prompt, Request, Status  # noqa: E402
from engines.local import loading  # noqa: E402
from engines.local.engine import TransformersEngine  # noqa: E402
from engines.registry import tiny_folder  # noqa: E402
from tests.helpers.bfloat16 import needs_bfloat16  # noqa: E402
from tests.helpers.tolerance import logprob_tolerance  # noqa: E402

WORDS = (
    *("insulin", "pancreas", "the", "hormone", "is", "made", "in", "battle"),
    *("of", "rome", "3", "4", "17", "plus", "question", "answer"),
)


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(tiny_folder())


def build(tokenizer, kind="Qwen2", **settings):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
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


def engine_of(model, tokenizer, **options):
    return TransformersEngine(model, tokenizer, name="random", digest="none", **options)


@pytest.fixture(scope="module")
def model(tokenizer):
    return build(tokenizer)


def questions(count=40, seed=0):
    rng = random.Random(seed)

    def text(low, high):
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    blocks = [text(30, 60) + "\n\n" for _ in range(3)]
    return [
        Request(
            str(n),
            Mode.CLOZE,
            Prompt(text=f"{blocks[n % 3]}Question: {text(1, 20)}\nAnswer:"),
            tuple(" " + text(1, 4) for _ in range(4)),
        )
        for n in range(count)
    ]


def near(logprobs, dtype="float32"):
    """Equal but for rounding."""
    return pytest.approx(logprobs, rel=0, abs=logprob_tolerance(logprobs, dtype))


def plain(model, tokenizer, prompt, option):
    """log P(option | prompt) from one ordinary forward pass, tokenised as one text."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = tokenizer(prompt + option)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))


@pytest.mark.parametrize("batch_tokens", [1, 60, 300, 100_000])
def test_log_probabilities_are_those_of_plain_passes(model, tokenizer, batch_tokens):
    asked = questions()
    answers = {
        a.id: a for a in engine_of(model, tokenizer, batch_tokens=batch_tokens).answer(asked)
    }
    assert answers.keys() == {r.id for r in asked}
    for request in asked:
        expected = [plain(model, tokenizer, request.prompt.text, o) for o in request.options]
        assert answers[request.id].logprobs == near(expected)


@pytest.mark.parametrize(
    ("kind", "settings", "shares"),
    [
        ("Llama", {}, True),
        ("Mistral", {"sliding_window": 8}, False),
        ("Gemma2", {"head_dim": 16, "sliding_window": 8, "attn_implementation": "eager"}, False),
        ("Qwen3", {"head_dim": 16}, True),
    ],
)
def test_an_architecture_that_cannot_share_is_computed_plainly(tokenizer, kind, settings, shares):
    model = build(tokenizer, kind, **settings)
    engine = engine_of(model, tokenizer)
    assert bool(engine.info.notes) is not shares
    asked = questions(6)
    for answer in engine.answer(asked):
        request = asked[int(answer.id)]
        expected = [plain(model, tokenizer, request.prompt.text, o) for o in request.options]
        assert answer.logprobs == near(expected)


@needs_bfloat16
def test_bfloat16_stays_near_float32(model, tokenizer):
    low = engine_of(build(tokenizer).to(torch.bfloat16), tokenizer)
    high = {a.id: a for a in engine_of(model, tokenizer).answer(questions(8))}
    for answer in low.answer(questions(8)):
        assert answer.logprobs == near(high[answer.id].logprobs, "bfloat16")


def test_prefixes_are_computed_once(model, tokenizer):
    engine = engine_of(model, tokenizer)
    list(engine.answer(questions(40)))
    unshared = sum(
        len(tokenizer(r.prompt.text + option)["input_ids"])
        for r in questions(40)
        for option in r.options
    )
    assert engine.forward_tokens < unshared / 8


def test_letters_report_the_mass_that_falls_on_them(model, tokenizer):
    request = Request("a", Mode.LETTER, Prompt(text="Question?\nAnswer:"), (" A", " B", " C"))
    (answer,) = engine_of(model, tokenizer).answer([request])
    assert answer.mass == pytest.approx(sum(map(math.exp, answer.logprobs)))
    assert 0 < answer.mass < 1


def test_greedy_marks_the_option_that_the_model_would_say(model, tokenizer):
    prompt = Prompt(text="Question: insulin\nAnswer:")
    engine = engine_of(model, tokenizer)
    (said,) = engine.answer([Request("g", Mode.GENERATE, prompt, max_tokens=3)])
    options = (said.text, " battle of rome")
    (answer,) = engine.answer([Request("s", Mode.CLOZE, prompt, options)])
    assert answer.greedy == (True, False)


class TestMemory:
    """A model for which memory runs out above a number of tokens."""

    @staticmethod
    def bounded(model, limit):
        inner = model.forward

        def forward(*args, input_ids, **settings):
            if input_ids.numel() > limit:
                raise torch.OutOfMemoryError("out of memory")
            return inner(*args, input_ids=input_ids, **settings)

        model.forward = forward
        return model

    def test_batches_are_halved_and_the_work_goes_on(self, tokenizer):
        model = self.bounded(build(tokenizer), 250)
        engine = engine_of(model, tokenizer, batch_tokens=2000)
        asked = questions()
        answers = list(engine.answer(asked))
        assert sorted(a.id for a in answers) == sorted(r.id for r in asked)
        assert engine.batch_tokens <= 250

    def test_replies_too(self, tokenizer):
        model = self.bounded(build(tokenizer), 200)
        asked = [Request(r.id, Mode.GENERATE, r.prompt, max_tokens=4) for r in questions(12)]
        answers = list(engine_of(model, tokenizer, batch_tokens=2000).answer(asked))
        assert sorted(a.id for a in answers) == sorted(r.id for r in asked)

    def test_one_prompt_too_long_for_the_memory_is_an_error_with_a_way_on(self, tokenizer):
        engine = engine_of(self.bounded(build(tokenizer), 24), tokenizer, batch_tokens=64)
        with pytest.raises(BenchError, match="memory does not suffice for one prompt of") as error:
            list(engine.answer(questions(3)))
        assert "--shots 0" in error.value.hint


class TestPrompts:
    def test_a_prompt_beyond_the_context_is_truncated_and_not_asked(self, tokenizer):
        engine = engine_of(build(tokenizer, max_position_embeddings=32), tokenizer)
        long = Request("long", Mode.CLOZE, Prompt(text="insulin " * 50), (" a", " b"))
        short = Request("short", Mode.CLOZE, Prompt(text="insulin"), (" a", " b"))
        answers = {a.id: a for a in engine.answer([long, short])}
        assert answers["long"].status is Status.TRUNCATED
        assert "context of 32" in answers["long"].error
        assert answers["short"].status is Status.OK

    def test_an_empty_prompt_begins_with_the_end_token(self, model, tokenizer):
        (answer,) = engine_of(model, tokenizer).answer(
            [Request("e", Mode.CLOZE, Prompt(text=""), (" insulin",))]
        )
        assert answer.logprobs == near([plain(model, tokenizer, "<|endoftext|>", " insulin")])

    def test_an_empty_option_is_an_error_of_its_question_only(self, model, tokenizer):
        asked = [
            Request("bad", Mode.CLOZE, Prompt(text="a"), (" x", "")),
            Request("good", Mode.CLOZE, Prompt(text="a"), (" x", " y")),
        ]
        answers = {a.id: a for a in engine_of(model, tokenizer).answer(asked)}
        assert answers["bad"].status is Status.ERROR
        assert answers["good"].status is Status.OK

    def test_spaces_at_the_end_of_a_prompt_belong_to_the_option(self, model, tokenizer):
        engine = engine_of(model, tokenizer)
        asked = [
            Request("0", Mode.CLOZE, Prompt(text="Answer: "), ("insulin",)),
            Request("1", Mode.CLOZE, Prompt(text="Answer:"), (" insulin",)),
        ]
        first, second = sorted(engine.answer(asked), key=lambda a: a.id)
        assert first.logprobs == second.logprobs

    def test_chat_messages_go_through_the_template(self, model, tokenizer):
        messages = (Message("user", "Which?"),)
        (answer,) = engine_of(model, tokenizer).answer(
            [Request("c", Mode.LETTER, Prompt(messages=messages), ("A", "B"))]
        )
        rendered = "<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n"
        expected = [plain(model, tokenizer, rendered, letter) for letter in "AB"]
        assert answer.logprobs == near(expected)

    def test_chat_without_a_template_names_the_way_on(self, model):
        bare = transformers.AutoTokenizer.from_pretrained(tiny_folder())
        bare.chat_template = None
        request = Request("c", Mode.LETTER, Prompt(messages=(Message("user", "?"),)), ("A",))
        with pytest.raises(Misuse, match="no chat template"):
            list(engine_of(model, bare).answer([request]))

    def test_an_adapter_that_is_not_loaded_is_refused(self, model, tokenizer):
        request = Request("a", Mode.CLOZE, Prompt(text="a", adapter="biology"), (" x",))
        with pytest.raises(Misuse, match="`biology` is not loaded"):
            list(engine_of(model, tokenizer).answer([request]))


class TestGeneration:
    def test_replies_are_those_of_the_library(self, model, tokenizer):
        asked = [Request(r.id, Mode.GENERATE, r.prompt, max_tokens=12) for r in questions(10)]
        for answer in engine_of(model, tokenizer).answer(asked):
            ids = tokenizer(asked[int(answer.id)].prompt.text, return_tensors="pt")
            with torch.inference_mode():
                full = model.generate(**ids, do_sample=False, max_new_tokens=12)
            new = full[0, ids["input_ids"].shape[1] :]
            assert answer.text == tokenizer.decode(new, skip_special_tokens=True)

    def test_a_reply_ends_before_a_stop(self, model, tokenizer):
        engine = engine_of(model, tokenizer)
        prompt = questions(1)[0].prompt
        (whole,) = engine.answer([Request("w", Mode.GENERATE, prompt, max_tokens=12)])
        stop = whole.text[4:6]
        (cut,) = engine.answer([Request("c", Mode.GENERATE, prompt, stop=(stop,), max_tokens=12)])
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert cut.output_tokens <= whole.output_tokens


class TestLoading:
    def test_pickled_weights_are_refused(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
        (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
        with pytest.raises(Misuse, match="pickled weights"):
            loading.load_model(str(tmp_path))

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "has no config.json"),
            ({"config.json": "{}"}, "holds no weights"),
            ({"config.json": "{}", "model.safetensors": ""}, "has no tokenizer"),
            (
                {"config.json": "not json", "model.safetensors": "", "tokenizer.json": "{}"},
                "cannot be loaded",
            ),
        ],
    )
    def test_a_folder_that_is_no_model_says_what_is_missing(self, tmp_path, files, message):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(BenchError, match=message):
            loading.load_model(str(tmp_path))

    def test_a_saved_model_is_loaded_and_its_digest_follows_the_weights(self, tokenizer, tmp_path):
        for seed, name in ((1.0, "a"), (1.0, "b"), (2.0, "c")):
            model = build(tokenizer)
            with torch.no_grad():
                model.lm_head.weight.mul_(seed)
            model.save_pretrained(tmp_path / name)
            tokenizer.save_pretrained(tmp_path / name)
        digests = [
            TransformersEngine.load(str(tmp_path / n), device="cpu").info.digest for n in "abc"
        ]
        assert digests[0] == digests[1] != digests[2]

    def test_a_device_that_is_not_there_is_named(self):
        with pytest.raises(Misuse, match="`tpu` is not there"):
            loading.pick_device("tpu")
