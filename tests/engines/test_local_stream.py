"""Replies of the in-process engine, written side by side, against those written alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from domainlift.errors import BenchError, EngineDown, Misuse  # noqa: E402
from engines.base import Message, Mode, Prompt, Request  # noqa: E402
from engines.local.engine import TransformersEngine  # noqa: E402
from engines.registry import tiny_folder  # noqa: E402
from engines.streaming import PromptTooLong, ReplyDelta, Sampling, StreamingEngine  # noqa: E402
from tests.helpers.random_models import make_adapter, make_base  # noqa: E402

ADAPTERS = ("one", "two", "three")
WORDS = ("insulin", "the", "hormone", "is", "made", "in", "battle", "of", "rome", "3", "17")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def engine(base: Path) -> Any:
    opened = opened_with_adapters(base)
    yield opened
    opened.close()


def opened_with_adapters(base: Path, **kinds: dict[str, Any]) -> TransformersEngine:
    engine = TransformersEngine.load(str(base), device="cpu")
    for seed, name in enumerate(kinds or ADAPTERS):
        folder = base.with_name(name)
        if not folder.exists():
            make_adapter(folder, base, seed, **kinds.get(name, {"r": 2 + seed}))
        engine.add_adapter(name, folder)
    return engine


def prompts(count: int = 8, adapters: Sequence[str | None] = ADAPTERS) -> list[Prompt]:
    """Prompts of different lengths, one of them of several chunks."""
    return [
        Prompt(
            " ".join(WORDS[(n * 5 + i) % len(WORDS)] for i in range(180 if n == 2 else 3 + 4 * n)),
            adapter=adapters[n % len(adapters)],
        )
        for n in range(count)
    ]


def written(engine: Any, prompts: Sequence[Prompt], tokens: int = 24) -> list[str]:
    """The replies of `answer`, each asked for by itself."""
    return [
        next(engine.answer([Request("", Mode.GENERATE, each, max_tokens=tokens)])).text
        for each in prompts
    ]


def streamed(engine: Any, prompt: Prompt, **sampling: Any) -> tuple[str, ReplyDelta]:
    pieces = list(engine.stream(prompt, Sampling(**({"max_tokens": 24} | sampling))))
    return "".join(piece.text for piece in pieces), pieces[-1]


def at_once(engine: Any, prompts: Sequence[Prompt], **sampling: Any) -> list[str]:
    with ThreadPoolExecutor(len(prompts)) as pool:
        return [text for text, _ in pool.map(lambda p: streamed(engine, p, **sampling), prompts)]


def test_an_engine_of_this_process_streams(engine: Any) -> None:
    assert isinstance(engine, StreamingEngine)


@pytest.mark.parametrize("adapters", [(None,), ("two",), ADAPTERS, (None, *ADAPTERS)])
def test_replies_are_those_of_answers_alone_and_side_by_side(engine: Any, adapters: Any) -> None:
    asked = prompts(8, adapters)
    wanted = written(engine, asked)
    assert len(set(wanted)) > 4
    assert [streamed(engine, prompt)[0] for prompt in asked] == wanted
    assert at_once(engine, asked) == wanted


def test_more_callers_than_rows_wait_their_turn(engine: Any) -> None:
    asked = prompts(24)
    assert at_once(engine, asked, max_tokens=6) == written(engine, asked, 6)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("Llama", {}), ("Mistral", {"sliding_window": 8}), ("Qwen3", {})],
)
def test_other_architectures(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    engine = opened_with_adapters(make_base(tmp_path / "model", kind, **settings))
    asked = prompts(5)
    assert at_once(engine, asked, max_tokens=8) == written(engine, asked, 8)
    engine.close()


def test_adapters_that_share_no_pass(base: Path, tmp_path: Path) -> None:
    model = make_base(tmp_path / "model")
    engine = opened_with_adapters(model, plain={}, dora={"use_dora": True})
    asked = prompts(8, (None, "plain", "dora"))
    wanted = written(engine, asked)
    assert at_once(engine, asked) == wanted
    assert at_once(engine, asked) == wanted  # from what stands in the slots
    engine.close()


def test_what_was_computed_is_used_again(engine: Any) -> None:
    shared = " ".join(WORDS * 6)

    def computed(text: str, adapter: str | None = None) -> int:
        before = engine.forward_tokens
        streamed(engine, Prompt(text, adapter=adapter), max_tokens=1)
        return int(engine.forward_tokens - before)

    first = computed(shared + " first")
    assert first > 80
    assert computed(shared + " second") < 8
    assert computed(shared + " first of all") < 8
    assert computed(shared + " first", "one") == first
    engine.close()  # a closed engine begins anew
    assert computed(shared + " first") == first


def test_what_callers_share_is_computed_once_though_they_come_together(engine: Any) -> None:
    engine.close()
    shared = " ".join(WORDS * 8)
    before = engine.forward_tokens
    at_once(engine, [Prompt(f"{shared} {n} and") for n in range(8)], max_tokens=1)
    length = len(engine.tokenizer(shared)["input_ids"])
    assert length > 90
    assert engine.forward_tokens - before < length + 8 * 32


def test_changed_weights_are_computed_anew(tmp_path: Path) -> None:
    base = make_base(tmp_path / "model")
    engine = opened_with_adapters(base)
    prompt = prompts(1)[0]
    before = streamed(engine, prompt)[0]
    make_adapter(tmp_path / "other", base, 9, r=2)
    engine.add_adapter("one", tmp_path / "other")
    assert streamed(engine, prompt)[0] == written(engine, [prompt])[0] != before
    engine.close()


def test_a_seed_gives_the_same_reply_whatever_is_beside_it(engine: Any) -> None:
    asked = prompts(6)
    drawn = {"temperature": 1.5, "top_p": 0.9, "seed": 5}
    alone = [streamed(engine, prompt, **drawn)[0] for prompt in asked]
    assert at_once(engine, asked, **drawn) == alone
    assert alone != written(engine, asked)
    assert alone != [streamed(engine, p, **(drawn | {"seed": 6}))[0] for p in asked]


def test_log_probabilities_are_those_of_a_plain_pass(engine: Any) -> None:
    prompt = prompts(2, (None,))[1]
    pieces = list(engine.stream(prompt, Sampling(max_tokens=5, top_logprobs=3)))
    tokens = [token for piece in pieces for token in piece.tokens]
    ids = engine.tokenizer(prompt.text)["input_ids"]
    for token in tokens:
        with torch.inference_mode():
            row = engine.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = row.topk(3)
        assert token.logprob == pytest.approx(best.values[0].item(), abs=1e-4)
        assert [t.logprob for t in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        ids.append(int(best.indices[0]))
    assert len(tokens) == 5
    assert all(math.isfinite(token.logprob) for token in tokens)


def test_the_end_of_a_reply(engine: Any) -> None:
    text, last = streamed(engine, prompts(1)[0], max_tokens=12)
    assert (last.finish, last.output_tokens) == ("length", 12)
    assert last.prompt_tokens > 0
    stop = text[len(text) // 2 :][:3]
    short, last = streamed(engine, prompts(1)[0], max_tokens=12, stop=(stop, "never"))
    assert last.finish == "stop"
    assert short == text[: text.index(stop)]


def test_the_context_ends_a_reply_or_refuses_a_prompt(engine: Any) -> None:
    near = Prompt("battle " * 250)
    length = len(engine.tokenizer(near.text.rstrip())["input_ids"])
    assert length < 512
    _, last = streamed(engine, near, max_tokens=None)
    assert (last.finish, last.prompt_tokens + last.output_tokens) == ("length", 512)
    with pytest.raises(PromptTooLong, match="exceeds the context window of 512"):
        streamed(engine, Prompt("battle " * 600))
    with pytest.raises(Misuse, match="not loaded"):
        streamed(engine, Prompt("a", adapter="none"))


def test_a_caller_who_leaves_disturbs_nobody(engine: Any) -> None:
    asked = prompts(6)
    wanted = written(engine, asked)
    leaving = engine.stream(Prompt("the battle of"), Sampling(max_tokens=400))
    next(leaving)
    with ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(streamed, engine, prompt) for prompt in asked]
        leaving.close()
        assert [reply.result()[0] for reply in replies] == wanted
    rows = engine._scheduler._running
    assert streamed(engine, asked[0])[0] == wanted[0]
    assert rows == []


def test_a_long_prompt_does_not_hold_up_others(engine: Any) -> None:
    """Between two pieces of a reply at most one chunk of another one's prompt is computed."""
    passes: list[int] = []
    run = engine._forward.run

    def seen(ids: Any, *given: Any, **more: Any) -> Any:
        passes.append(ids.numel())
        return run(ids, *given, **more)

    first = engine.stream(Prompt("the battle of"), Sampling(max_tokens=60))
    next(first)
    engine._forward.run = seen
    try:
        streamed(engine, Prompt("of rome " * 110), max_tokens=2)
        list(first)
    finally:
        engine._forward.run = run
    chunks = [at for at, size in enumerate(passes) if size > 16]
    assert len(chunks) >= 2
    assert max(passes) <= 128
    assert all(later - at > 1 for at, later in pairwise(chunks))


def test_memory_that_runs_out_halves_the_rows(base: Path) -> None:
    engine = opened_with_adapters(base)
    asked = prompts(8)
    wanted = written(engine, asked)
    run = engine._forward.run

    def poor(ids: Any, *given: Any, **more: Any) -> Any:
        if len(ids) > 2:
            raise MemoryError
        return run(ids, *given, **more)

    engine._forward.run = poor  # type: ignore[method-assign]
    assert at_once(engine, asked) == wanted
    assert engine._scheduler is not None
    assert engine._scheduler._model.rows <= 2
    engine._forward.run = run  # type: ignore[method-assign]
    engine.close()


def test_a_limit_of_the_cache_reduces_the_rows(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2 layers, a position takes 2 * 2 * 2 * 16 * 4 = 512 bytes: here are 5 slots of 256."""
    from engines.local import row_passes

    monkeypatch.setattr(row_passes, "_CACHE", 5 * 256 * 512)
    engine = opened_with_adapters(base)
    asked = prompts(8)
    wanted = written(engine, asked)
    assert at_once(engine, asked) == wanted
    assert engine._scheduler is not None
    assert 2 <= engine._scheduler._model.rows <= 5
    assert at_once(engine, asked) == wanted
    engine.close()
    monkeypatch.setattr(row_passes, "_CACHE", 100)
    with pytest.raises(BenchError, match="memory does not suffice"):
        streamed(engine, prompts(3)[2])
    engine.close()


def test_a_row_that_never_fits_is_an_error_and_others_go_on(base: Path) -> None:
    engine = opened_with_adapters(base)
    run = engine._forward.run
    fits = 20

    def poor(ids: Any, *given: Any, **more: Any) -> Any:
        if ids.numel() > fits:
            raise MemoryError
        return run(ids, *given, **more)

    engine._forward.run = poor  # type: ignore[method-assign]
    with pytest.raises(BenchError, match="memory does not suffice for one prompt"):
        streamed(engine, Prompt("of rome " * 100))
    assert streamed(engine, Prompt("of"), max_tokens=3)[1].finish == "length"
    engine.close()


def test_a_fault_is_told_to_every_caller(base: Path) -> None:
    engine = opened_with_adapters(base)
    run = engine._forward.run
    engine._forward.run = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(EngineDown, match="division by zero"):
        streamed(engine, Prompt("of"))
    engine._forward.run = run  # type: ignore[method-assign]
    assert streamed(engine, Prompt("of"))[1].finish == "length"
    engine.close()


def test_what_is_kept_outlives_an_idle_thread(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.scheduler._LINGER", 0.01)
    engine = opened_with_adapters(base)
    prompt = Prompt(" ".join(WORDS * 4))
    first = streamed(engine, prompt)[0]
    assert engine._scheduler is not None
    deadline = time.monotonic() + 5
    while engine._scheduler._thread is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine._scheduler._thread is None
    before = engine.forward_tokens
    assert first.startswith(streamed(engine, prompt, max_tokens=1)[0])
    assert engine.forward_tokens - before == 1
    engine.close()


def test_logits_that_are_no_numbers_end_only_their_reply(engine: Any) -> None:
    feed = engine_rows(engine).feed

    def broken(feeds: Any) -> Any:
        logits = feed(feeds)
        for row, each in enumerate(feeds):
            if each.adapter == "one":
                logits[row] = float("nan")
        return logits

    asked = prompts(2, ("two", "three"))
    wanted = written(engine, asked)
    engine_rows(engine).feed = broken
    try:
        with ThreadPoolExecutor(3) as pool:
            bad = pool.submit(streamed, engine, prompts(1)[0])
            good = [pool.submit(streamed, engine, prompt) for prompt in asked]
            assert [each.result()[0] for each in good] == wanted
            with pytest.raises(BenchError, match="not finite"):
                bad.result()
    finally:
        engine_rows(engine).feed = feed


def engine_rows(engine: Any) -> Any:
    streamed(engine, Prompt("of"), max_tokens=1)
    return engine._scheduler._model


def test_closing_ends_replies(base: Path) -> None:
    engine = opened_with_adapters(base)
    going = engine.stream(Prompt("the battle"), Sampling(max_tokens=400))
    next(going)
    engine.close()
    with pytest.raises(EngineDown, match="closed"):
        list(going)


def test_answers_and_replies_at_once(engine: Any) -> None:
    asked = prompts(8)
    wanted = written(engine, asked)
    cloze = [
        Request(str(n), Mode.CLOZE, prompt, (" rome", " insulin"))
        for n, prompt in enumerate(prompts(30))
    ]
    expected = {a.id: a.logprobs for a in engine.answer(cloze)}
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(engine.answer(cloze)))
    thread.start()
    assert at_once(engine, asked) == wanted
    thread.join()
    assert {a.id: pytest.approx(a.logprobs, abs=1e-4) for a in found} == expected


def test_tools_reach_the_template_or_are_refused() -> None:
    engine = TransformersEngine.load(str(tiny_folder()), device="cpu")
    asked = Prompt(messages=(Message("user", "hello"),), tools=({"type": "function"},))
    with pytest.raises(Misuse, match="leaves out the list of tools"):
        streamed(engine, asked)
    engine.tokenizer.chat_template = (
        "{{ tools | tojson }}{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments.city }})"
        "{% endfor %};{% endfor %}"
    )
    engine = TransformersEngine(engine.model, engine.tokenizer, name="tiny", digest="")
    call = {"function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    turns = (*asked.messages, Message("assistant", "", {"tool_calls": [call]}))
    text = engine._encoder._text(
        Request("", Mode.GENERATE, Prompt(messages=turns, tools=asked.tools))
    )
    assert text == '[{"type": "function"}]user:hello;assistant:weather(Bern);'
    engine.close()
