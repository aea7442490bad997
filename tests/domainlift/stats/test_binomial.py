from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.stats.binomial import above_chance, below_chance, binomial_mass, upper_tail


class TestBelowChance:
    @given(
        st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1, 10), Fraction(99, 100)]),
    )
    def test_equals_exact_fractions(self, count: tuple[int, int], chance: Fraction) -> None:
        correct, n = count
        exact = sum(
            math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(correct + 1)
        )
        assert below_chance(correct, n, float(chance)) == pytest.approx(float(exact), rel=1e-10)

    @pytest.mark.parametrize("n", [1_000, 20_000])
    @pytest.mark.parametrize("sigmas", [-6, -2, 0, 2])
    def test_large_n_equals_exact_integers(self, n: int, sigmas: int) -> None:
        """At a chance of 1/4 the tail is a whole number of 4 ** -n."""
        correct = n // 4 + round(sigmas * math.sqrt(n * 3 / 16))
        weight = total = 3**n
        for k in range(1, correct + 1):
            weight = weight * (n - k + 1) // (3 * k)
            total += weight
        assert below_chance(correct, n, 0.25) == pytest.approx(total / 4**n, rel=1e-9)

    @pytest.mark.parametrize(
        ("correct", "n", "chance", "expected"),
        [(0, 0, 0.25, 1), (3, 9, 0.0, 1), (9, 9, 1.0, 1), (8, 9, 1.0, 0), (5, 5, 0.2, 1)],
    )
    def test_edges(self, correct: int, n: int, chance: float, expected: float) -> None:
        assert below_chance(correct, n, chance) == expected

    def test_the_far_tail_is_a_number(self) -> None:
        assert 0 <= below_chance(0, 20_000, 0.25) < 1e-300
        assert below_chance(0, 20_000, 1e-5) == pytest.approx((1 - 1e-5) ** 20_000)

    @given(
        st.integers(20, 400).flatmap(lambda n: st.tuples(st.integers(0, n // 4), st.just(n))),
        st.floats(1, 50),
    )
    def test_a_design_effect_errs_towards_silence(
        self, count: tuple[int, int], design: float
    ) -> None:
        correct, n = count
        size = math.floor(n / design)
        assert 0 <= below_chance(correct, n, 0.25, design) <= 1
        hits = min(size, math.ceil(correct * size / n))
        assert hits / max(size, 1) >= correct / n or size == 0
        assert below_chance(correct, n, 0.25, design) == below_chance(hits, size, 0.25)

    @given(st.lists(st.sampled_from([0.2, 0.25, 0.5]), min_size=4, max_size=60))
    def test_mixed_chances_err_towards_silence(self, chances: list[float]) -> None:
        """Hoeffding 1956, against the exact distribution of the sum."""
        weights = [1.0]
        for p in chances:
            zipped = zip([*weights, 0.0], [0.0, *weights], strict=True)
            weights = [miss * (1 - p) + hit * p for miss, hit in zipped]
        mean = sum(chances) / len(chances)
        for correct in range(math.floor(sum(chances) - 1) + 1):
            true_tail = sum(weights[: correct + 1])
            assert below_chance(correct, len(chances), mean) >= true_tail * (1 - 1e-9)


@pytest.mark.parametrize(("k", "n", "p"), [(3, 10, 0.2), (0, 5, 0.3), (6, 5, 0.3), (5, 5, 1.0)])
def test_a_tail_is_the_sum_of_its_masses(k: int, n: int, p: float) -> None:
    assert upper_tail(k, n, p) == pytest.approx(
        sum(binomial_mass(each, n, p) for each in range(k, n + 1))
    )


class TestAboveChance:
    @given(
        st.lists(st.sampled_from([0.2, 0.25, 1 / 3, 0.5]), min_size=1, max_size=9),
        st.integers(0, 9),
    )
    def test_equals_the_sum_over_every_outcome(self, chances: list[float], correct: int) -> None:
        exact = 0.0
        for outcome in product((0, 1), repeat=len(chances)):
            if sum(outcome) >= correct:
                exact += math.prod(
                    c if right else 1 - c for c, right in zip(chances, outcome, strict=True)
                )
        assert above_chance(correct, chances) == pytest.approx(exact, abs=1e-12)

    def test_many_questions_of_several_kinds(self) -> None:
        """As one binomial where all chances are nearly equal, and in no time."""
        mixed = [0.25] * 5_000 + [0.25 + 1e-12] * 5_000
        assert above_chance(2_600, mixed) == pytest.approx(
            upper_tail(2_600, 10_000, 0.25), rel=1e-6
        )

    @pytest.mark.parametrize(
        ("correct", "chances", "p"),
        [(0, [], 1.0), (0, [0.0], 1.0), (1, [0.0, 0.0], 0.0), (40, [0.25] * 100, 0.00068)],
    )
    def test_by_hand(self, correct: int, chances: list[float], p: float) -> None:
        assert above_chance(correct, chances) == pytest.approx(p, abs=1e-5)

    def test_questions_on_one_passage_say_less(self) -> None:
        assert above_chance(40, [0.25] * 100, design=4.0) > above_chance(40, [0.25] * 100)
