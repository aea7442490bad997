"""What is shown of a reply that grows: whole characters, and nothing of a stop string."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.reply_text import ReplyWriter, StopText, TokenReader, TokenText
from engines.sampler import Sampler, draw, log_softmax, token_logprob
from engines.streaming import Sampling

#: A vocabulary of bytes, one a token.
BYTES = TokenReader(
    lambda tokens: bytes(tokens).decode("utf-8", "replace"), lambda t: bytes([t]), lambda t: t == 0
)


def streamed(pieces: list[str], stops: list[str], opened: str = "") -> tuple[list[str], bool]:
    text = StopText(stops, opened)
    return [text.add(piece, last=at == len(pieces)) for at, piece in enumerate(pieces, 1)], (
        text.stopped
    )


@pytest.mark.parametrize(
    ("pieces", "stops", "shown", "stopped"),
    [
        (["a", "b"], [], ["a", "b"], False),
        (["ab", "c", "d"], ["cd"], ["ab", "", ""], True),
        (["ab", "c", "e"], ["cd"], ["ab", "", "ce"], False),
        (["ab", "c"], ["cd"], ["ab", "c"], False),
        (["a\n", "\n", "b"], ["\n\n"], ["a", "", ""], True),
        (["a\nQ"], ["\n", "Q"], ["a"], True),
        (["aab", "c"], ["aabc", "ab"], ["a", ""], True),
        (["<think>", "a\n", "</think>", "\n", "b\n", "c"], ["\n"], None, True),
    ],
)
def test_a_stop_string_is_never_shown(
    pieces: list[str], stops: list[str], shown: list[str] | None, stopped: bool
) -> None:
    found, ended = streamed(pieces, stops)
    assert ended is stopped
    if shown is None:
        assert "".join(found) == "<think>a\n</think>\nb"
    else:
        assert found == shown


@given(
    st.lists(st.text("ab\n", max_size=4), min_size=1, max_size=12),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_pieces_add_up_to_the_text_before_the_first_stop(
    pieces: list[str], stops: list[str]
) -> None:
    whole = "".join(pieces)
    found, stopped = streamed(pieces, stops)
    text = ""
    for piece in pieces:  # a stop string ends the reply at the piece that completes it
        text += piece
        ends = [text.find(stop) for stop in stops if stop in text]
        if ends:
            assert stopped
            assert "".join(found) == text[: min(ends)]
            return
    assert not stopped
    assert "".join(found) == whole


@given(st.binary(max_size=30) | st.text(max_size=12).map(str.encode))
def test_characters_come_whole(raw: bytes) -> None:
    text = TokenText(BYTES.decode)
    pieces = [text.add(byte) for byte in raw]
    assert "".join(pieces) + text.rest() == raw.decode("utf-8", "replace")
    if "\ufffd" not in raw.decode("utf-8", "replace"):
        assert not any("\ufffd" in piece for piece in pieces)


def test_the_text_of_tokens_is_that_of_the_tokenizer() -> None:
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    from engines.local.tokenization import Encoder
    from engines.registry import tiny_folder

    tokenizer: Any = AutoTokenizer.from_pretrained(str(tiny_folder()))
    encoder = Encoder(tokenizer)
    tokens = tokenizer("Καλημέρα 你好 🙂 <|im_end|> and so on", add_special_tokens=False).input_ids
    text = TokenText(encoder.decode)
    assert "".join(map(text.add, tokens)) + text.rest() == encoder.decode(tokens)
    assert b"".join(map(encoder.raw, tokens)).decode() == tokenizer.decode(tokens)


def test_a_reply_says_why_it_ended_and_what_its_tokens_were() -> None:
    def write(text: bytes, sampling: Sampling, limit: int = 99) -> Any:
        writer = ReplyWriter(BYTES, sampling, 7, limit, "")
        found = []
        for byte in text:
            piece = writer.next(np.eye(256, dtype=np.float32)[byte] * 50)
            found += [piece] if piece else []
            if piece and piece.finish:
                break
        return found

    plain = write("né!".encode() + b"\0", Sampling(top_logprobs=2))
    assert [piece.text for piece in plain] == ["n", "é", "!", ""]
    assert plain[-1].finish == "stop"
    assert (plain[-1].prompt_tokens, plain[-1].output_tokens) == (7, 5)
    tokens = [token for piece in plain for token in piece.tokens]
    assert b"".join(token.raw for token in tokens) == "né!".encode()
    assert all(len(token.top) == 2 and token.top[0].logprob == token.logprob for token in tokens)

    stopped = write(b"one\ntwo", Sampling(stop=("\ntw",), top_logprobs=0))
    assert "".join(piece.text for piece in stopped) == "one"
    assert stopped[-1].finish == "stop"
    assert [t.text for piece in stopped for t in piece.tokens] == ["o", "n", "e"]

    cut = write("aé".encode(), Sampling(stop=("é!",)), limit=2)
    assert "".join(piece.text for piece in cut) == "a\ufffd"
    assert cut[-1].finish == "length"


def test_the_nucleus_is_the_smallest_set_of_its_mass() -> None:
    logits = np.log(np.array([0.1, 0.5, 0.15, 0.25]))
    numbers = (np.arange(1000) + 0.5) / 1000
    for top_p, kept in ((1.0, {0, 1, 2, 3}), (0.9, {1, 2, 3}), (0.6, {1, 3}), (0.5, {1}), (0, {1})):
        drawn = [draw(logits, top_p, number) for number in numbers]
        assert set(drawn) == kept
        mass = sum(np.exp(logits[list(kept)]))
        for token in kept:
            assert drawn.count(token) / 1000 == pytest.approx(
                np.exp(logits[token]) / mass, abs=2e-3
            )


def test_penalties_are_subtracted_from_what_was_written() -> None:
    logits = np.array([1.0, 0.9, 0.0], dtype=np.float32)
    once = Sampler(Sampling(presence_penalty=0.2))
    assert [once.choose(logits) for _ in range(4)] == [0, 1, 0, 0]
    each = Sampler(Sampling(frequency_penalty=0.2))
    assert [each.choose(logits) for _ in range(4)] == [0, 1, 0, 1]
    assert logits[0] == 1


def test_a_seed_gives_the_same_tokens_again() -> None:
    logits = np.zeros(50, dtype=np.float32)
    first, second = (
        [sampler.choose(logits) for _ in range(20)]
        for sampler in (Sampler(Sampling(temperature=1, seed=3)) for _ in range(2))
    )
    assert first == second
    assert len(set(first)) > 5


def test_log_probabilities_are_those_before_temperature_and_penalties() -> None:
    logits = np.random.default_rng(0).normal(size=20).astype(np.float32)
    found = token_logprob(logits, 4, 3, lambda token: bytes([65 + token]))
    assert (found.text, found.raw) == ("E", b"E")
    assert found.logprob == pytest.approx(log_softmax(logits)[4])
    assert [ord(each.text) - 65 for each in found.top] == list(np.argsort(-logits)[:3])
