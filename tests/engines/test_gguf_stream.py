"""Replies of llama.cpp, written side by side, against those written alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from domainlift.errors import EngineDown, Misuse
from engines.base import Mode, Prompt, Request
from engines.gguf import row_contexts
from engines.gguf.engine import GgufEngine
from engines.local.loading import load_model
from engines.streaming import PromptTooLong, Sampling, StreamingEngine
from finetune.export.gguf_base import write_gguf
from tests.helpers.random_models import make_adapter, make_base

WORDS = ("insulin", "hormone", "battle", "Rome", "17", "plus", "made", "in", "the", "of")
ADAPTERS = (None, "one", "two")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stream")
    base = make_base(root / "model")
    model, tokenizer = load_model(str(base), device="cpu")
    write_gguf(root / "model.gguf", model, tokenizer, "f32")
    for seed, name in enumerate(("one", "two")):
        make_adapter(root / name, base, seed)
    return root


@pytest.fixture
def engine(folder: Path) -> Iterator[GgufEngine]:
    opened = GgufEngine(folder / "model.gguf")
    for name in ("one", "two"):
        opened.add_adapter(name, folder / name)
    yield opened
    opened.close()


def prompts(count: int = 8) -> list[Prompt]:
    return [
        Prompt(
            " ".join(WORDS[(n * 3 + i) % len(WORDS)] for i in range(150 if n == 2 else 3 + 4 * n)),
            adapter=ADAPTERS[n % 3],
        )
        for n in range(count)
    ]


def written(engine: Any, prompts: Sequence[Prompt]) -> list[str]:
    return [
        next(engine.answer([Request("", Mode.GENERATE, each, max_tokens=16)])).text
        for each in prompts
    ]


def streamed(engine: Any, prompt: Prompt, **sampling: Any) -> str:
    pieces = engine.stream(prompt, Sampling(**({"max_tokens": 16} | sampling)))
    return "".join(piece.text for piece in pieces)


def at_once(engine: Any, prompts: Sequence[Prompt], **sampling: Any) -> list[str]:
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(lambda prompt: streamed(engine, prompt, **sampling), prompts))


def alike(found: Sequence[str], wanted: Sequence[str]) -> bool:
    """Where two tokens are as likely as each other, 16 bits may choose the other."""
    return sum(a == b for a, b in zip(found, wanted, strict=True)) >= len(wanted) - 1


def test_replies_are_those_of_answers_alone_and_side_by_side(engine: GgufEngine) -> None:
    assert isinstance(engine, StreamingEngine)
    asked = prompts()
    wanted = written(engine, asked)
    assert len(set(wanted)) > 4
    assert alike([streamed(engine, prompt) for prompt in asked], wanted)
    assert alike(at_once(engine, asked), wanted)
    assert alike(at_once(engine, prompts(20)), written(engine, prompts(20)))


def test_a_context_that_fills_is_emptied_or_grows(
    engine: GgufEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_contexts, "_POSITIONS", 256)
    monkeypatch.setattr("engines.gguf.model._STEP", 256)
    asked = prompts(20)
    wanted = written(engine, asked)
    assert alike(at_once(engine, asked), wanted)
    assert alike([streamed(engine, prompt) for prompt in asked], wanted)
    assert engine._rows is not None
    sizes = [context.positions for context in engine._rows._contexts.values()]
    assert max(sizes) > 256


def test_what_was_computed_is_used_again(engine: GgufEngine) -> None:
    shared = " ".join(WORDS * 6)

    def computed(text: str, adapter: str | None = None) -> int:
        before = engine.forward_tokens
        streamed(engine, Prompt(text, adapter=adapter), max_tokens=1)
        return engine.forward_tokens - before

    first = computed(shared + " first")
    assert first > 60
    assert computed(shared + " second") < 8
    assert computed(shared + " first", "one") == first
    assert computed(shared + " first of all") < 8


def test_seeds_ends_and_refusals(engine: GgufEngine) -> None:
    asked = prompts(4)
    drawn = {"temperature": 1.2, "top_p": 0.9, "seed": 3}
    assert alike(at_once(engine, asked, **drawn), [streamed(engine, p, **drawn) for p in asked])
    pieces = list(engine.stream(asked[0], Sampling(max_tokens=4, top_logprobs=2)))
    assert pieces[-1].finish == "length"
    tokens = [token for piece in pieces for token in piece.tokens]
    assert [token.top[0].raw for token in tokens] == [token.raw for token in tokens]
    with pytest.raises(PromptTooLong, match="exceeds the context window of 512"):
        streamed(engine, Prompt("battle " * 600))
    with pytest.raises(Misuse, match="no adapter"):
        streamed(engine, Prompt("battle", adapter="none"))
    going = engine.stream(asked[0], Sampling(max_tokens=300))
    next(going)
    engine.close()
    with pytest.raises(EngineDown, match="closed"):
        list(going)
    with pytest.raises(EngineDown, match="closed"):
        streamed(engine, asked[0])
