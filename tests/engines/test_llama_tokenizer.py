"""Letters, cloze and training rows with tokenizers as Llama's, which may end every text."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.base import Mode, Prompt, Request
from engines.local.special_tokens import stop_appending
from engines.local.tokenization import Encoder
from finetune.data.rows import Row
from finetune.training.tokenize import encode
from tests.helpers.llama_tokenizer import save_llama_tokenizer

PROMPTS = ["Question: What is 2 + 3?\nAnswer:", "Where is it?\nAnswer: ", "The", "Is it\n"]
OPTIONS = {Mode.LETTER: (" A", " B", " Q"), Mode.CLOZE: (" in the cell", " 5", "x", " é out")}


@pytest.mark.parametrize("blanks", ["legacy", "always", "first", "never"])
@pytest.mark.parametrize("begins", [True, False])
def test_prompt_and_answer_are_one_text_without_an_end(
    tmp_path: Path, blanks: str, begins: bool
) -> None:
    plain = save_llama_tokenizer(tmp_path / "plain", blanks, begins=begins)
    tokenizer = save_llama_tokenizer(tmp_path / "ends", blanks, begins=begins, ends=True)
    assert tokenizer("Answer: 5")["input_ids"][-1] == tokenizer.eos_token_id
    assert stop_appending(tokenizer) == ("</s>",)
    encoder = Encoder(tokenizer)
    for prompt in PROMPTS:
        for mode, options in OPTIONS.items():
            [item] = encoder.items([Request("q", mode, Prompt(prompt), options)])
            for option, tokens in zip(options, item.options, strict=True):
                assert [*item.prompt, *tokens] == plain(prompt + option)["input_ids"]
                [row] = encode([Row(prompt, option, "")], tokenizer)
                assert row.ids == (*item.prompt, *tokens)
                assert row.prompt_length == len(item.prompt)


@pytest.mark.parametrize("blanks", ["legacy", "always", "first", "never"])
def test_an_answer_keeps_its_own_tokens_where_pieces_would_join(
    tmp_path: Path, blanks: str
) -> None:
    tokenizer = save_llama_tokenizer(tmp_path, blanks, joins=True)
    prompt, options = "Question: What is 2 + 3?\nAnswer:", (" A", " B", " out of it")
    [item] = Encoder(tokenizer).items([Request("q", Mode.CLOZE, Prompt(prompt), options)])
    joined = [tokenizer(prompt + option)["input_ids"] for option in options]
    assert all(tuple(ids[: len(item.prompt)]) != item.prompt for ids in joined)
    for option, tokens in zip(options, item.options, strict=True):
        said = tokenizer.decode([*item.prompt, *tokens]).removeprefix("<s>")
        assert said.removeprefix(" ") == prompt + option
        [row] = encode([Row(prompt, option, "")], tokenizer)
        assert row.ids == (*item.prompt, *tokens)


def test_the_library_own_llama_tokenizer_is_kept_from_ending_texts(tmp_path: Path) -> None:
    from transformers import LlamaTokenizer

    vocabulary = save_llama_tokenizer(tmp_path, "always").get_vocab()
    made = LlamaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True, add_eos_token=True)
    assert made("A")["input_ids"][-1] == made.eos_token_id
    assert stop_appending(made) == ("</s>",)
    assert made("A B")["input_ids"] == [1, *made("A B", add_special_tokens=False)["input_ids"]]
