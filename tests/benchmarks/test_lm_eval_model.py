"""Parity with lm-eval's own HF backend: the same model, the same questions, both ways."""

import gzip
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("lm_eval")

from benchmarks.lm_eval_model import EngineLM  # noqa: E402
from benchmarks.prompts import PromptBuilder, PromptFormat  # noqa: E402
from benchmarks.scoring.score import score  # noqa: E402
from benchmarks.tasks.registry import load_task  # noqa: E402
from domainlift.errors import Misuse  # noqa: E402
from domainlift.types import Treatment  # noqa: E402
from engines.base import Answer, Mode  # noqa: E402
from engines.local.engine import TransformersEngine  # noqa: E402
from engines.registry import tiny_folder  # noqa: E402
from knowledge_bases.domains import load_domains  # noqa: E402
from tests.helpers.tolerance import logprob_tolerance  # noqa: E402

DATA = os.environ.get("BENCH_DATA")


def random_model(vocabulary):
    torch.manual_seed(3)
    config = transformers.Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=8192,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return transformers.Qwen2ForCausalLM(config).eval()


def qwen_tokenizer():
    from tokenizers import Tokenizer

    packed = Path(DATA) / "qwen25_tokenizer" / "tokenizer.json.gz"
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(gzip.decompress(packed.read_bytes()).decode()),
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


def both(model, tokenizer):
    """lm-eval's backend and ours over one model."""
    from lm_eval.models.huggingface import HFLM

    engine = TransformersEngine(model, tokenizer, name="random", digest="none")
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=8192)
    return theirs, EngineLM(engine)


def instances(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, pair, i) for i, pair in enumerate(arguments)]


def requests_of(name, mode, shots, count):
    task = load_task(name, data=Path(DATA) if DATA else None, domains=load_domains())
    prompter = PromptBuilder(task, PromptFormat(mode, shots, chat=False))
    chosen = task.questions[:count]
    return chosen, [prompter.request(q, Treatment()) for q in chosen]


def near(logprobs):
    """Equal but for rounding."""
    return pytest.approx(logprobs, rel=0, abs=logprob_tolerance(logprobs))


def assert_parity(model, tokenizer, questions, requests, mode):
    theirs, ours = both(model, tokenizer)
    pairs = [(r.prompt.text, option) for r in requests for option in r.options]
    a = theirs.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    b = ours.loglikelihood(instances("loglikelihood", pairs))
    expected = [value for value, _ in a]
    assert [value for value, _ in b] == near(expected)
    assert [greedy for _, greedy in a] == [greedy for _, greedy in b]
    right = [[], []]
    for values, scores in ((a, right[0]), (b, right[1])):
        start = 0
        for question, request in zip(questions, requests, strict=True):
            stop = start + len(request.options)
            logprobs = tuple(value for value, _ in values[start:stop])
            scores.append(score(question, Answer(question.id, logprobs=logprobs), mode).correct)
            start = stop
    assert right[0] == right[1]


@pytest.fixture(scope="module")
def small():
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folder())
    return random_model(len(tokenizer)), tokenizer


@pytest.mark.parametrize("domain", ["biology", "mathematics"])
def test_parity_on_the_demo(small, domain):
    questions, requests = requests_of(f"own:{domain}", Mode.CLOZE, 0, 30)
    assert_parity(*small, questions, requests, Mode.CLOZE)


@pytest.mark.skipif(DATA is None, reason="needs BENCH_DATA")
@pytest.mark.parametrize(
    ("name", "mode", "shots"),
    [
        pytest.param("mmlu:college_biology", Mode.LETTER, 5, marks=pytest.mark.slow),
        pytest.param("mmlu:computer_security", Mode.LETTER, 5, marks=pytest.mark.slow),
        pytest.param("arc:challenge", Mode.CLOZE, 0, marks=pytest.mark.slow),
        ("arc:easy", Mode.CLOZE, 2),
    ],
)
def test_parity_on_published_questions(name, mode, shots):
    tokenizer = qwen_tokenizer()
    questions, requests = requests_of(name, mode, shots, 16)
    assert_parity(random_model(len(tokenizer)), tokenizer, questions, requests, mode)


def test_replies_agree(small):
    theirs, ours = both(*small)
    settings = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False}
    pairs = [(f"Question: What is {n} plus 2?\nAnswer:", settings) for n in range(4)]
    a = theirs.generate_until(instances("generate_until", pairs), disable_tqdm=True)
    b = ours.generate_until(instances("generate_until", pairs))
    assert a == b


def test_a_whole_text_is_scored(small):
    theirs, ours = both(*small)
    texts = instances("loglikelihood_rolling", [("The pancreas makes insulin.",)])
    a = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    b = ours.loglikelihood_rolling(texts)
    assert b == near(a)


def test_sampled_replies_are_refused(small):
    _, ours = both(*small)
    request = instances("generate_until", [("a", {"until": ["."], "do_sample": True})])
    with pytest.raises(Misuse, match="samples"):
        ours.generate_until(request)
