from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import Misuse
from engines.base import Message, Mode, Prompt, Request
from engines.local.tokenization import Encoder
from engines.registry import tiny_folder
from finetune.data.rows import Row
from finetune.training.tokenize import Encoded, decoded, encode, truncated


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tiny_folder()))


def beginning() -> Any:
    """A tokenizer that begins a text with a token of its own."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(str(tiny_folder()), bos_token="<|im_start|>")
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    return made


def row(
    prompt: str = "Where is it?\nAnswer:", completion: str = " in the cell", **more: Any
) -> Row:
    return Row(prompt, completion, "biology", **more)


def chat(completion: str = "in the cell", *turns: tuple[str, str], **more: Any) -> Row:
    said = turns or (("user", "Where is it?"),)
    return row("", completion, messages=tuple(Message(*turn) for turn in said), **more)


def one(each: Row, **settings: Any) -> Encoded:
    return encode([each], tokenizer(), **settings)[0]


@pytest.mark.parametrize(
    ("prompt", "completion", "read", "trained"),
    [
        ("Q: 2 + 2\nA:", " 4", "Q: 2 + 2\nA:", " 4"),
        ("Answer: ", "cell", "Answer:", " cell"),
        ("Answer:  ", "cell", "Answer:", "  cell"),
        ("Answer:", "cell", "Answer:", "cell"),
        ("The cel", "ls divide", "The cel", "ls divide"),
        ("Answer:\n", "\ncell", "Answer:\n", "\ncell"),
        ("", "cell", "<|endoftext|>", "cell"),
        ("   ", "cell", "<|endoftext|>", "   cell"),
        ("a<|im_end|>", "b", "a<|im_end|>", "b"),
    ],
)
def test_the_answer_alone_is_trained(prompt: str, completion: str, read: str, trained: str) -> None:
    assert decoded(one(row(prompt, completion)), tokenizer()) == ((read, trained),)


def test_what_is_trained_is_what_the_evaluation_reads() -> None:
    prompts = ["Where is it?\nAnswer:", "Where is it?\nAnswer: ", "One\n\nTwo"]
    for prompt in prompts:
        request = Request("0", Mode.CLOZE, Prompt(prompt), (" in the cell", " out of it"))
        item = Encoder(tokenizer()).items([request])[0]
        for option, tokens in zip(request.options, item.options, strict=True):
            found = one(row(prompt, option))
            assert (found.ids[: found.prompt_length], found.ids[found.prompt_length :]) == (
                item.prompt,
                tokens,
            )


def test_pieces_that_would_join_across_the_seam_stay_apart() -> None:
    ids = tokenizer()("Answer:\n")["input_ids"]
    assert tokenizer()("Answer:\n\ncell")["input_ids"][: len(ids)] != ids
    found = one(row("Answer:\n", "\ncell"))
    assert list(found.ids[: found.prompt_length]) == ids


def test_a_plain_row_ends_only_where_it_is_asked_to() -> None:
    assert one(row()).ids[-1] != tokenizer().eos_token_id
    found = one(row(), end=True)
    assert decoded(found, tokenizer())[0][1] == " in the cell<|endoftext|>"


def test_a_chat_goes_through_the_template_and_its_end_of_turn_is_trained() -> None:
    found = one(chat("in it", ("system", "Be short."), ("user", "Where?")))
    ((read, trained),) = decoded(found, tokenizer())
    assert read == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert trained == "in it<|im_end|>"
    assert found.ids[-1] == tokenizer().convert_tokens_to_ids("<|im_end|>")


def test_a_chat_without_a_template_is_refused_by_name() -> None:
    bare = beginning()
    bare.chat_template = None
    with pytest.raises(Misuse, match=f"`{chat().id}` is a chat") as caught:
        encode([row(), chat()], bare)
    assert "prompt" in str(caught.value.hint)


def test_turns_that_the_template_refuses_are_named() -> None:
    strict = beginning()
    strict.chat_template = "{{ raise_exception('roles must\\nalternate') }}"
    with pytest.raises(
        Misuse, match=f"`{chat().id}`: the model.s chat template refuses this chat: roles must"
    ):
        encode([chat()], strict)


def test_tools_are_shown_to_the_template() -> None:
    knowing = beginning()
    knowing.chat_template = "{{ tools[0]['name'] }}{{ messages[0]['content'] }}:"
    found = encode([chat(tools='[{"name": "get_order"}]')], knowing)[0]
    assert decoded(found, knowing)[0][0] == "get_orderWhere is it?:"


@pytest.mark.parametrize("completion", ["", "   ", "\n\t"])
def test_nothing_to_train_on_is_refused_with_the_example(completion: str) -> None:
    empty = row("The last words of the prompt", completion)
    with pytest.raises(Misuse, match=f"`{empty.id}` has nothing to train on") as caught:
        encode([row(), empty], tokenizer())
    assert "The last words of the prompt" in caught.value.what
    assert "\n" not in caught.value.what


def test_a_long_row_loses_the_beginning_of_its_prompt_and_says_so() -> None:
    short, long = row(), row("many words " * 50 + "Answer:", " in the cell")
    whole = one(long)
    found = encode([short, long], tokenizer(), max_tokens=20)
    assert found[0] == one(short)
    assert found[1].ids == whole.ids[-20:]
    assert found[1].trained == whole.trained
    assert found[1].n_truncated == len(whole.ids) - 20
    assert truncated(found) == [long.id]


def test_a_cut_prompt_keeps_the_token_that_begins_a_text() -> None:
    whole = encode([row("many words " * 20)], beginning())[0]
    cut = encode([row("many words " * 20)], beginning(), max_tokens=12)[0]
    assert len(cut.ids) == 12
    assert cut.ids[0] == whole.ids[0] == 1
    assert cut.ids[1:] == whole.ids[-11:]
    assert cut.trained == whole.trained


def test_an_answer_is_never_cut() -> None:
    long = row("Say it:", " again" * 30)
    with pytest.raises(Misuse, match=rf"answer of example `{long.id}` has \d+ tokens, and 9 fit"):
        encode([long], tokenizer(), max_tokens=10)
    trained = one(long).trained
    assert one(long, max_tokens=trained + 1).prompt_length == 1


WORDS = st.text(st.sampled_from(" \n.:abcdeé9字"), max_size=30)


@given(WORDS, WORDS.filter(lambda text: bool(text.strip())), st.booleans())
def test_nothing_is_lost_at_the_seam(prompt: str, completion: str, end: bool) -> None:
    found = one(row(prompt, completion), end=end)
    assert found.trained >= 1
    assert found.prompt_length >= 1
    ids = list(found.ids)
    first = tokenizer().eos_token_id
    if not prompt.rstrip(" "):
        assert ids.pop(0) == first
    whole = prompt + completion + ("<|endoftext|>" if end else "")
    assert tokenizer().decode(ids) == whole


@given(WORDS, WORDS.filter(lambda text: bool(text.strip())), st.integers(2, 40))
def test_no_row_is_longer_than_allowed(prompt: str, completion: str, most: int) -> None:
    whole = one(row(prompt, completion))
    try:
        found = one(row(prompt, completion), max_tokens=most)
    except Misuse:
        assert whole.trained >= most
        return
    assert len(found.ids) <= most
    assert found.ids[found.prompt_length :] == whole.ids[whole.prompt_length :]
    assert replace(found, n_truncated=0) == whole or found.n_truncated == len(whole.ids) - most
