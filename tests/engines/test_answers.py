"""Replies of engines in this process: where they end, and what ends them."""

from __future__ import annotations

import numpy as np
import pytest

from engines.local.tokenization import Encoder
from engines.reply_text import ReplyWriter, TokenReader
from engines.streaming import Sampling
from engines.thought_markers import opened_thought

WORDS = ["", "B", ".", "\n\n", "<think>", " Is it C?", "</think>"]


def reply(
    *tokens: int, ended: bool = False, most: int = 4, opened: str = ""
) -> tuple[str, bool] | None:
    """The text of a reply of these tokens, and whether it was cut off; None where it goes on."""
    last = len(tokens) - 1
    count = 0

    def ends(_: int) -> bool:
        return ended and count == last

    reader = TokenReader(lambda ids: "".join(WORDS[i] for i in ids), lambda _: b"", ends)
    writer = ReplyWriter(reader, Sampling(stop=("\n\n", "")), 1, most, opened)
    said = ""
    for count, token in enumerate(tokens):
        piece = writer.next(np.eye(len(WORDS), dtype=np.float32)[token])
        said += piece.text if piece else ""
        if piece and piece.finish:
            assert count == last
            return said, piece.finish == "length"
    return None


def test_the_limit_cuts_off_what_no_end_and_no_stop_ended() -> None:
    assert reply(1, 2) is None
    assert reply(1, 2, 1, 2) == ("B.B.", True)
    assert reply(1, 2, 1, 0, ended=True) == ("B.B", False)
    assert reply(1, 2, 1, 3) == ("B.B", False)
    assert reply(1, 3) == ("B", False)


def test_a_stop_string_within_a_thought_ends_nothing() -> None:
    thought = (4, 5, 3, 5)
    assert reply(*thought, most=9) is None
    assert reply(*thought, 6, 3, most=9) is None
    assert reply(*thought, 6, 1, 3, most=9) == ("<think> Is it C?\n\n Is it C?</think>B", False)
    assert reply(*thought) == ("<think> Is it C?\n\n Is it C?", True)
    # The prompt began the thought, and a server says so only by its end.
    assert reply(5, 6, 3, 1, 3, most=9) == (" Is it C?</think>\n\nB", False)
    assert reply(5, 3, 5, most=9, opened="<think>") is None
    assert reply(5, 3, 6, 1, 3, most=9, opened="<think>") == (
        "<think> Is it C?\n\n</think>B",
        False,
    )


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("What does <think> do?\nassistant:", ""),
        ("[/INST][THINK]", "[THINK]"),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        ("", ""),
    ],
)
def test_a_prompt_may_begin_the_thought(prompt: str, mark: str) -> None:
    assert opened_thought(prompt) == mark


class _Vocabulary:
    """A tokenizer of words whose marks of thoughts are special tokens."""

    chat_template = None
    words = ("?", "Is it", " B", "[THINK]", "[/THINK]", "<s>")

    def __call__(
        self, text: str, add_special_tokens: bool = True, **_: object
    ) -> dict[str, object]:
        found = [self.words.index(text)] if text in self.words else [0]
        return {"input_ids": found}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join("" if i in (0, 3, 4, 5) else self.words[i] for i in ids)


def test_marks_of_thoughts_are_decoded_and_other_special_tokens_are_not() -> None:
    vocabulary: object = _Vocabulary()
    encoder = Encoder(vocabulary)  # type: ignore[arg-type]
    assert encoder.decode([5, 3, 1, 4, 2, 5]) == "[THINK]Is it[/THINK] B"
    # What this vocabulary does not know is the unknown token, and no mark.
    assert encoder.decode([0, 2]) == " B"
