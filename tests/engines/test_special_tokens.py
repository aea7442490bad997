from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from domainlift.errors import Misuse
from engines.base import Mode, Prompt, Request
from engines.local.engine import TransformersEngine
from engines.local.special_tokens import stop_appending
from engines.registry import tiny_folder


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_folder())


def wrap(tokenizer: Any, before: list[str], after: list[str]) -> None:
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in {*before, *after}}
    assert None not in ids.values()
    single = [*before, "$A", *after]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, pair=[*single, "$B"], special_tokens=list(ids.items())
    )


def special(tokenizer: Any) -> tuple[str, str]:
    names = tokenizer.all_special_tokens
    return names[0], names[-1]


@pytest.mark.parametrize("starts", [False, True])
def test_what_stands_before_a_text_stays_and_what_ends_it_goes(
    tokenizer: Any, starts: bool
) -> None:
    first, last = special(tokenizer)
    plain = tokenizer("Two and two?", add_special_tokens=False)["input_ids"]
    before = [first] if starts else []
    wrap(tokenizer, before, [last])
    assert tokenizer("Two and two?")["input_ids"][-1] == tokenizer.convert_tokens_to_ids(last)
    assert stop_appending(tokenizer) == (last,)
    ids = [tokenizer.convert_tokens_to_ids(name) for name in before]
    assert tokenizer("Two and two?")["input_ids"] == [*ids, *plain]
    assert stop_appending(tokenizer) == ()


def test_a_tokenizer_that_appends_nothing_is_left_alone(tokenizer: Any) -> None:
    processor = tokenizer.backend_tokenizer.post_processor
    assert stop_appending(tokenizer) == ()
    assert str(tokenizer.backend_tokenizer.post_processor) == str(processor)


def test_one_that_cannot_be_kept_from_it_is_refused() -> None:
    class Slow:
        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [7, 2] if add_special_tokens else [7]}

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return ["</s>" for _ in ids]

    with pytest.raises(Misuse, match="appends `</s>` to every prompt"):
        stop_appending(Slow())


@pytest.mark.parametrize("mode", [Mode.LETTER, Mode.CLOZE])
def test_an_engine_answers_as_with_a_tokenizer_that_appends_nothing(
    tmp_path: Path, tokenizer: Any, mode: Mode
) -> None:
    import shutil

    folder = tmp_path / "appends"
    shutil.copytree(tiny_folder(), folder)
    wrap(tokenizer, [], [special(tokenizer)[1]])
    tokenizer.save_pretrained(folder)
    prompt = Prompt(text="Question: What is 2 + 3?\nAnswer:")
    request = Request("q", mode, prompt, options=(" 5", " 6", " 7"))
    [plain] = TransformersEngine.load(str(tiny_folder())).answer([request])
    engine = TransformersEngine.load(str(folder))
    [same] = engine.answer([request])
    assert same.logprobs == plain.logprobs
    assert any("appends" in note for note in engine.info.notes)
