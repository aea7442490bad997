from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.held_out.gate import (
    DomainEvidence,
    GateCriteria,
    GateVerdict,
    MinGain,
    apply_gate,
    parse_min_gain,
)
from domainlift.errors import Misuse
from domainlift.stats.paired import paired

LEVEL = GateCriteria()


def change(n: int, gains: int, losses: int, right: int = 0, **faults: int) -> DomainEvidence:
    """`right` were right before and stayed so."""
    before = [False] * gains + [True] * losses + [True] * right
    after = [True] * gains + [False] * losses + [True] * right
    before += [False] * (n - len(before))
    after += [False] * (n - len(after))
    return DomainEvidence(paired(before, after, [""] * n), **faults)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (change(400, 60, 20), GateVerdict.PROMOTED),
        (change(400, 40, 40), GateVerdict.REJECTED),  # the interval ends below five points
        (change(60, 6, 2), GateVerdict.INCONCLUSIVE),  # +6.7 points, and it may be luck
        (change(400, 20, 60), GateVerdict.REJECTED),
        (change(2000, 80, 10), GateVerdict.REJECTED),  # sure, and too small
        (change(1, 1, 0), GateVerdict.INCONCLUSIVE),
        (
            change(400, 60, 20, newly_unparsed=40),
            GateVerdict.REJECTED,
        ),  # better, but it cannot be read any more
        (change(400, 60, 20, newly_unparsed=3, newly_parsed=3), GateVerdict.PROMOTED),
    ],
)
def test_a_treated_domain(made: DomainEvidence, word: GateVerdict) -> None:
    assert apply_gate({"biology": made}, ["biology"], LEVEL).domains["biology"].word is word


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (change(120, 0, 0), GateVerdict.UNHARMED),
        (change(120, 3, 18), GateVerdict.REJECTED),
        (
            change(120, 4, 6),
            GateVerdict.UNHARMED,
        ),  # too few questions to exclude a loss of three points
        (change(4000, 20, 100), GateVerdict.REJECTED),
        (change(4000, 110, 140), GateVerdict.UNHARMED),  # -0.75 points, p .07
    ],
)
def test_a_protected_domain(made: DomainEvidence, word: GateVerdict) -> None:
    many = {f"d{n}": change(200, 0, 0) for n in range(60)}
    found = apply_gate({"philosophy": made, **many}, [], LEVEL)
    assert found.domains["philosophy"].word is word


def test_one_harmed_domain_rejects_the_whole() -> None:
    found = apply_gate(
        {"biology": change(400, 60, 20), "philosophy": change(120, 0, 20)}, ["biology"], LEVEL
    )
    assert found.word is GateVerdict.REJECTED
    assert found.kept == ()
    assert "philosophy" in found.why


def test_what_passes_is_kept_and_the_rest_is_named() -> None:
    changes = {"biology": change(400, 60, 20), "history": change(60, 6, 2)}
    found = apply_gate(changes, list(changes), LEVEL)
    assert found.word is GateVerdict.PROMOTED
    assert found.kept == ("biology",)
    assert "history inconclusive" in found.why


def test_inconclusive_says_how_many_questions_it_lacks() -> None:
    found = apply_gate({"biology": change(60, 6, 2)}, ["biology"], LEVEL)
    further = found.domains["biology"].questions_needed
    assert found.word is GateVerdict.INCONCLUSIVE
    assert further is not None
    assert str(further) in found.why
    # With that many more, turning as often as before, it passes.
    n = 60 + further
    more = change(n, round(n * 6 / 60), round(n * 2 / 60))
    assert apply_gate({"biology": more}, ["biology"], LEVEL).word is GateVerdict.PROMOTED


def test_several_domains_need_more_than_one() -> None:
    alone = {"a": change(200, 26, 12)}
    among = alone | {name: change(200, 1, 1) for name in "bcdef"}
    assert apply_gate(alone, ["a"], LEVEL).word is GateVerdict.PROMOTED
    assert apply_gate(among, list(among), LEVEL).domains["a"].word is GateVerdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "made",
    [
        change(1000, 70, 30),  # +4 points for sure, and five are wanted
        change(400, 24, 8),
    ],
)
def test_a_gain_that_is_too_small_asks_for_no_more_questions(made: DomainEvidence) -> None:
    found = apply_gate({"biology": made}, ["biology"], LEVEL).domains["biology"]
    assert found.word is GateVerdict.INCONCLUSIVE
    assert found.questions_needed is None
    assert "5pt are wanted" in found.why


def test_questions_on_one_passage_and_other_domains_ask_for_more() -> None:
    def further(changes: dict[str, DomainEvidence]) -> int:
        found = apply_gate(changes, list(changes), LEVEL).domains["a"].questions_needed
        assert found is not None
        return found

    alone = change(60, 6, 2)
    alike = replace(alone, paired=replace(alone.paired, design=3.0))
    needed = further({"a": alone}) + 60
    assert further({"a": alike}) == pytest.approx(3 * needed - 60, abs=3)
    assert further({"a": alone, "b": change(60, 0, 0)}) + 60 > needed


@pytest.mark.parametrize(
    ("text", "gain", "over"),
    [
        ("5pt", MinGain(0.05), 0.05),
        ("5%", MinGain(0.05, relative=True), 0.025),
        (" 2.5 pt", MinGain(0.025), 0.025),
    ],
)
def test_a_gain_says_of_what(text: str, gain: MinGain, over: float) -> None:
    assert parse_min_gain(text) == gain
    assert gain.over(0.5) == pytest.approx(over)
    assert parse_min_gain(str(gain)) == gain


@pytest.mark.parametrize("text", ["5", "0.05", "-5pt", "5 points", "", "five%"])
def test_a_bare_number_is_refused(text: str) -> None:
    with pytest.raises(Misuse, match="does not say of what"):
        parse_min_gain(text)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 9)),
    ),
    st.sets(st.sampled_from("abcdef")),
)
def test_every_domain_has_a_word_and_only_treated_ones_are_kept(
    made: dict[str, tuple[int, int, int, int]], treated: set[str]
) -> None:
    changes = {
        name: change(n + gains + losses, gains, losses, newly_unparsed=newly)
        for name, (n, gains, losses, newly) in made.items()
    }
    found = apply_gate(changes, treated, LEVEL)
    assert set(found.domains) == set(changes)
    assert set(found.kept) <= treated & set(changes)
    assert (found.word is GateVerdict.PROMOTED) == bool(found.kept)
    if any(found.domains[name].word is GateVerdict.REJECTED for name in set(changes) - treated):
        assert found.word is GateVerdict.REJECTED
