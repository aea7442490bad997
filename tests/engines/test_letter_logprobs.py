"""Letters out of a token's alternatives: variants add up, absent letters get a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError
from engines.base import Answer
from engines.servers.letter_logprobs import LOWEST, alternatives_of, with_letters

ABCD = (" A", " B", " C", " D")


def logs(**probabilities: float) -> list[tuple[str, float]]:
    return [(token, math.log(p)) for token, p in probabilities.items()]


def read_letters(alternatives: Sequence[tuple[str, float]], options: Sequence[str]) -> Answer:
    return with_letters(Answer("q"), dict(alternatives), options)


@pytest.mark.parametrize("token", ["A", " A", "▁A", "ĠA", "A\n", "  A "])
def test_tokens_that_differ_in_white_space_are_the_letter(token: str) -> None:
    letters = read_letters([(token, math.log(0.5)), ("x", math.log(0.2))], ["A"])
    assert letters.logprobs == (pytest.approx(math.log(0.5)),)
    assert (letters.mass, letters.n_bounded, letters.greedy) == (pytest.approx(0.5), 0, (True,))


@pytest.mark.parametrize("token", ["A.", "a", "AA", "(A", "", " ", "\uff21"])
def test_other_tokens_are_not(token: str) -> None:
    letters = read_letters([(token, math.log(0.5))], ["A"])
    assert (letters.mass, letters.n_bounded, letters.greedy) == (0, 1, (False,))


def test_variants_add_up() -> None:
    alternatives = [("A", math.log(0.25)), (" A", math.log(0.5)), ("B", math.log(0.125))]
    letters = read_letters(alternatives, ABCD[:2])
    assert [math.exp(each) for each in letters.logprobs] == pytest.approx([0.75, 0.125])
    assert letters.mass == pytest.approx(0.875)


def test_an_absent_letter_is_bounded_by_the_smallest_probability() -> None:
    letters = read_letters(logs(A=0.5, B=0.1), ABCD)
    assert math.exp(letters.logprobs[2]) == pytest.approx(0.1)
    assert letters.n_bounded == 2


def test_an_absent_letter_is_bounded_by_what_is_left() -> None:
    letters = read_letters(logs(A=0.6, B=0.38), ABCD)
    assert math.exp(letters.logprobs[2]) == pytest.approx(0.02)


def test_where_a_server_returns_fewer_alternatives_than_options_the_rest_is_bounded() -> None:
    options = [f" {letter}" for letter in ascii_uppercase]
    returned = [(f" {letter}", -2.0 - number) for number, letter in enumerate("JBZAC")]
    letters = read_letters(returned, options)
    assert letters.n_bounded == 21
    assert max(range(26), key=letters.logprobs.__getitem__) == ascii_uppercase.index("J")
    assert letters.logprobs[3] == min(letters.logprobs) <= -6.0


def test_without_any_letter_all_are_equal_and_have_no_mass() -> None:
    letters = read_letters(logs(The=0.6, I=0.2), ABCD)
    assert len(set(letters.logprobs)) == 1
    assert (letters.mass, letters.n_bounded, letters.greedy) == (0, 4, (False,) * 4)


def test_greedy_is_what_the_model_would_say_and_not_the_best_letter() -> None:
    assert read_letters(logs(The=0.6, A=0.2), ABCD).greedy == (False,) * 4
    assert read_letters(logs(B=0.6, A=0.2), ABCD).greedy == (False, True, False, False)


def test_never_is_a_finite_number() -> None:
    letters = read_letters([("A", 0.0), ("B", -math.inf), ("C", -(10.0**38))], ABCD[:3])
    assert letters.logprobs == (0.0, LOWEST, LOWEST)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.1, 1, None, "-1", True, 10**400])
def test_what_is_no_log_probability_is_refused(value: object) -> None:
    with pytest.raises(BenchError, match="no log-probability"):
        alternatives_of([{"token": "A", "logprob": value}])


@pytest.mark.parametrize("found", [[], {}, "A", 3, [1], [["A", -1.0]]])
def test_other_shapes_are_refused(found: object) -> None:
    with pytest.raises(BenchError):
        alternatives_of(found)


def test_probabilities_above_one_together_are_refused() -> None:
    with pytest.raises(BenchError, match=r"add up to `1\.8`"):
        read_letters(logs(A=0.9, B=0.9), ABCD)


def test_both_shapes_fill_an_answer_alike() -> None:
    pairs = {"A": -0.5, " B": -1.5}
    listed = [{"token": token, "logprob": value, "bytes": None} for token, value in pairs.items()]
    one, other = (with_letters(Answer("q"), found, ABCD) for found in (pairs, listed))
    assert one == other
    assert (one.logprobs[:2], one.n_bounded, one.greedy[0]) == ((-0.5, -1.5), 2, True)


tokens = st.sampled_from(["A", " A", "▁A", "B", " B", "C", "D", "x", "The", "\n", "A."])


@st.composite
def distributions(draw: st.DrawFn) -> list[tuple[str, float]]:
    """Some tokens of one distribution, each once."""
    names = draw(st.lists(tokens, min_size=1, max_size=11, unique=True))
    weights = [draw(st.floats(1e-9, 1)) for _ in names]
    total = sum(weights) + draw(st.floats(0, 1))
    return [(name, math.log(w / total)) for name, w in zip(names, weights, strict=True)]


@given(distributions())
def test_all_that_holds_for_any_distribution(alternatives: list[tuple[str, float]]) -> None:
    letters = read_letters(alternatives, ABCD)
    smallest = min(value for _, value in alternatives)
    present = [
        any(t.replace("▁", " ").strip() == letter.strip() for t, _ in alternatives)
        for letter in ABCD
    ]
    assert letters.n_bounded == present.count(False)
    assert letters.mass is not None
    assert 0 <= letters.mass <= 1
    assert (letters.mass == 0) == (not any(present))
    assert sum(letters.greedy) <= 1
    for value, here in zip(letters.logprobs, present, strict=True):
        assert LOWEST <= value <= 0
        # A bound never beats what was really returned.
        assert value >= smallest - 1e-9 if here else value <= smallest
    found = [math.exp(v) for v, here in zip(letters.logprobs, present, strict=True) if here]
    assert sum(found) == pytest.approx(letters.mass, abs=1e-9)


@given(distributions(), st.randoms(use_true_random=False))
def test_the_order_of_alternatives_does_not_matter(
    alternatives: list[tuple[str, float]], random: object
) -> None:
    shuffled = list(alternatives)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = read_letters(alternatives, ABCD), read_letters(shuffled, ABCD)
    assert one.logprobs == pytest.approx(other.logprobs)
    assert one.n_bounded == other.n_bounded
