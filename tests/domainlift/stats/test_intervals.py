from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domainlift.stats.binomial import SUSPICIOUS, below_chance
from domainlift.stats.intervals import (
    Interval,
    Verdict,
    accuracy_interval,
    design_effect,
    questions_to_settle,
    verdict,
    wilson,
)

Z2 = 1.959963984540054**2
# docs/statistics.md, "A worked example": right answers in each of 20 passages of 5 questions.
PASSAGES = [5] * 8 + [3] * 3 + [2] * 3 + [0] * 6

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
shares = st.floats(0, 1)
outcome_lists = st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=80)
graded = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from(["", "a", "b", "c", "d"])), max_size=60
)


def passages(right: list[int], size: int) -> tuple[list[float], list[str]]:
    outcomes = [float(i < hits) for hits in right for i in range(size)]
    return outcomes, [f"p{p}" for p in range(len(right)) for _ in range(size)]


def bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


class TestWilson:
    @pytest.mark.parametrize(
        ("correct", "n", "low", "high"),
        # By hand: z² / (n + z²) = 3.8415 / 13.8415. The last: Newcombe 1998, Stat. Medicine 17.
        [
            (0, 10, 0.0, 0.27754),
            (10, 10, 0.72246, 1.0),
            (0, 0, 0.0, 1.0),
            (81, 263, 0.2553, 0.3662),
        ],
    )
    def test_known_values(self, correct: int, n: int, low: float, high: float) -> None:
        assert bounds(wilson(correct, n)) == pytest.approx((low, high), abs=5e-5)

    @given(counts, st.floats(0.5, 0.999))
    @example((0, 1), 0.95)
    @example((3000, 3000), 0.95)
    def test_contains_the_estimate(self, count: tuple[int, int], level: float) -> None:
        correct, n = count
        interval = wilson(correct, n, level)
        assert correct / n in interval
        assert 0 <= interval.low < interval.high <= 1

    @given(counts, st.integers(2, 20))
    def test_narrows_with_n(self, count: tuple[int, int], times: int) -> None:
        correct, n = count
        less, more = wilson(correct, n), wilson(correct * times, n * times)
        assert more.high - more.low < less.high - less.low

    @given(counts)
    def test_is_symmetric_under_right_and_wrong(self, count: tuple[int, int]) -> None:
        correct, n = count
        right, wrong = wilson(correct, n), wilson(n - correct, n)
        assert (1 - right.high, 1 - right.low) == pytest.approx(bounds(wrong), abs=1e-12)

    @given(counts)
    def test_ends_solve_the_score_equation(self, count: tuple[int, int]) -> None:
        correct, n = count
        for end in bounds(wilson(correct, n)):
            assert (correct / n - end) ** 2 == pytest.approx(Z2 * end * (1 - end) / n, abs=1e-9)

    @given(shares, st.floats(0, 2))
    @example(1.0, 5e-324)
    @example(0.3, 1e-300)
    def test_tiny_sizes_stay_finite(self, share: float, n: float) -> None:
        interval = wilson(share * n, n)
        assert 0 <= interval.low <= interval.high <= 1

    @pytest.mark.parametrize(("n", "worst"), [(20, 0.92), (50, 0.93), (200, 0.937)])
    def test_exact_coverage(self, n: int, worst: float) -> None:
        """Sum the binomial over the counts whose interval holds the truth: nothing is random.

        Accuracies from 5 to 95 %; the same sum over ±1.96 standard errors falls to 0.64 at n=20.
        """
        covered = [coverage(n, percent / 100) for percent in range(5, 96)]
        assert min(covered) > worst
        assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.005)


class TestDesignEffect:
    @given(outcome_lists)
    def test_questions_that_stand_alone_give_one(self, outcomes: list[float]) -> None:
        unnamed, named = [""] * len(outcomes), [str(i) for i in range(len(outcomes))]
        assert design_effect(outcomes, unnamed) == 1
        assert design_effect(outcomes, named) == 1

    @given(outcome_lists, st.integers(1, 8))
    def test_copies_give_about_their_number(self, outcomes: list[float], k: int) -> None:
        names = [str(i) for i in range(len(outcomes))]
        design = design_effect(outcomes * k, names * k)
        # The two small-sample factors leave (n - 1) / (n - k), nothing at all without variance.
        n = len(outcomes) * k
        assert k - 1e-9 <= design <= k * (n - 1) / (n - k) + 1e-9

    @given(graded)
    def test_lies_between_one_and_n(self, pairs: list[tuple[float, str]]) -> None:
        outcomes, names = [o for o, _ in pairs], [c for _, c in pairs]
        assert 1 <= design_effect(outcomes, names) <= max(1, len(pairs)) + 1e-9

    @given(graded, st.randoms())
    def test_does_not_depend_on_order_or_sign(
        self, pairs: list[tuple[float, str]], rng: random.Random
    ) -> None:
        before = design_effect([o for o, _ in pairs], [c for _, c in pairs])
        rng.shuffle(pairs)
        after = design_effect([1 - o for o, _ in pairs], [c for _, c in pairs])
        assert after == pytest.approx(before)

    @pytest.mark.parametrize(
        ("outcomes", "names", "expected"),
        [
            ([], [], 1),
            ([1], ["a"], 1),
            ([1, 0, 1, 0], ["a"] * 4, 4),  # one passage is one observation
            ([1, 1, 1, 1], ["a"] * 4, 4),
            ([1, 1, 1, 1], ["a", "a", "b", "b"], 2),  # all right: counted as copies
            ([0, 0, 0, 0], ["a", "a", "a", ""], 10 / 4),
            ([1, 1, 1, 1], [""] * 4, 1),
            ([1, 0, 1, 0], ["a", "a", "b", "b"], 1),  # opposed answers do not help
        ],
    )
    def test_guards(self, outcomes: list[float], names: list[str], expected: float) -> None:
        assert design_effect(outcomes, names) == pytest.approx(expected)

    @given(graded.filter(lambda pairs: len({o for o, _ in pairs}) == 2))
    def test_is_the_ratio_of_the_textbook_variances(self, pairs: list[tuple[float, str]]) -> None:
        """Miller's double sum over the pairs within a cluster, written as in the paper."""
        outcomes, n = [o for o, _ in pairs], len(pairs)
        names = [c if c else f"alone {i}" for i, (_, c) in enumerate(pairs)]
        mean, count = sum(outcomes) / n, len(set(names))
        if count < 2:
            return
        products = (
            (outcomes[i] - mean) * (outcomes[j] - mean)
            for i in range(n)
            for j in range(n)
            if names[i] == names[j]
        )
        clustered = count / (count - 1) * sum(products) / n**2
        simple = sum((o - mean) ** 2 for o in outcomes) / (n - 1) / n
        expected = max(1.0, clustered / simple)
        assert design_effect(outcomes, [c for _, c in pairs]) == pytest.approx(expected)

    def test_unequal_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            design_effect([1.0, 0.0], ["a"])


class TestAccuracyInterval:
    @given(graded)
    def test_contains_the_accuracy_and_is_never_the_narrower(
        self, pairs: list[tuple[float, str]]
    ) -> None:
        outcomes, n = [o for o, _ in pairs], len(pairs)
        interval = accuracy_interval(outcomes, [c for _, c in pairs])
        simple = wilson(sum(outcomes), n)
        assert n == 0 or sum(outcomes) / n in interval
        assert interval.low <= simple.low + 1e-12
        assert interval.high >= simple.high - 1e-12

    def test_without_clusters_it_is_wilson(self) -> None:
        assert bounds(accuracy_interval([1, 1, 0], [""] * 3)) == pytest.approx(bounds(wilson(2, 3)))

    def test_covers_the_truth_where_questions_share_passages(self) -> None:
        """1,000 runs of 40 passages with 5 questions, correlation 0.5 within a passage.

        The true coverage is 0.950 (20,000 runs with another seed; the simple interval: 0.744).
        The odds of a false alarm, were the seed drawn anew: 2 in 100,000 for fewer than 920, by
        the binomial; 1 in 100,000 for more than 800 simple ones.
        """
        rng, truth, clustered, simple = random.Random(11), 0.6, 0, 0
        for _ in range(1000):
            easy = [rng.betavariate(truth, 1 - truth) for _ in range(40)]
            outcomes, names = passages([sum(rng.random() < p for _ in range(5)) for p in easy], 5)
            clustered += truth in accuracy_interval(outcomes, names)
            simple += truth in wilson(sum(outcomes), 200)
        assert clustered >= 920
        assert simple <= 800


class TestVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0.1, 0.59, Verdict.WEAK),
            (0.1, 0.6, Verdict.UNCERTAIN),
            (0.59, 0.7, Verdict.UNCERTAIN),
            (0.6, 0.7, Verdict.STRONG),
            (0.0, 1.0, Verdict.UNCERTAIN),
        ],
    )
    def test_against_060(self, low: float, high: float, expected: Verdict) -> None:
        assert verdict(Interval(low, high), 0.6) is expected

    def test_prints_as_its_word(self) -> None:
        assert [f"{word}" for word in Verdict] == ["strong", "weak", "uncertain"]

    def test_both_ends_are_inside(self) -> None:
        interval = Interval(0.25, 0.5)
        assert 0.25 in interval
        assert 0.5 in interval
        assert 0.51 not in interval


class TestQuestionsToSettle:
    @given(shares, st.integers(1, 2000), st.floats(0.05, 0.95), st.floats(1, 8))
    def test_really_settles_and_is_the_smallest(
        self, accuracy: float, n: int, target: float, design: float
    ) -> None:
        def settled(total: int) -> bool:
            size = total / design
            return verdict(wilson(accuracy * size, size), target) is not Verdict.UNCERTAIN

        further = questions_to_settle(accuracy, n, target, design)
        if further is None:
            assert not settled(n + 1_000_000)
        else:
            assert settled(n + further)
            assert further == 0 or not settled(n + further - 1)

    @given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(1, 8))
    def test_equals_the_closed_form(self, accuracy: float, target: float, design: float) -> None:
        if abs(accuracy - target) < 0.01:
            return
        total = design * Z2 * target * (1 - target) / (accuracy - target) ** 2
        further = questions_to_settle(accuracy, 1, target, design)
        assert further is not None
        assert further + 1 == pytest.approx(max(1, math.ceil(total)), abs=1)

    @pytest.mark.parametrize(
        ("accuracy", "n", "expected"),
        [(0.6, 100, None), (0.5999, 100, None), (0.0, 0, None), (0.9, 100, 0), (0.1, 100, 0)],
    )
    def test_edges(self, accuracy: float, n: int, expected: int | None) -> None:
        assert questions_to_settle(accuracy, n, 0.6) == expected


@pytest.mark.parametrize("outcomes", [[], [1.0], [0.0]])
@pytest.mark.parametrize("name", ["", "a"])
def test_below_two_questions_everything_is_finite(outcomes: list[float], name: str) -> None:
    n, names = len(outcomes), [name] * len(outcomes)
    interval, design = accuracy_interval(outcomes, names), design_effect(outcomes, names)
    assert design == 1
    assert 0 <= interval.low < interval.high <= 1
    assert verdict(interval, 0.6) is Verdict.UNCERTAIN
    assert 0 <= below_chance(round(sum(outcomes)), n, 0.25, design) <= 1
    assert questions_to_settle(sum(outcomes) / max(n, 1), n, 0.6, design) in (None, 2, 5)


class TestTheWorkedExampleOfTheDocs:
    """The numbers in docs/statistics.md, recomputed."""

    def test_interval_and_verdict(self) -> None:
        interval = wilson(55, 100)
        assert bounds(interval) == pytest.approx((0.452, 0.644), abs=5e-4)
        assert verdict(interval, 0.6) is Verdict.UNCERTAIN

    def test_clustered(self) -> None:
        outcomes, names = passages(PASSAGES, 5)
        assert (sum(outcomes), len(outcomes)) == (55, 100)
        assert sum((hits - 2.75) ** 2 for hits in PASSAGES) == 87.75
        design = design_effect(outcomes, names)
        assert design == pytest.approx(87.75 / 24.75 * 20 / 19 * 99 / 100)
        assert design == pytest.approx(3.69, abs=5e-3)
        assert 100 / design == pytest.approx(27.1, abs=0.05)
        interval = accuracy_interval(outcomes, names)
        assert bounds(interval) == pytest.approx((0.368, 0.719), abs=5e-4)
        assert questions_to_settle(0.55, 100, 0.6, design) == 1263

    def test_further_questions(self) -> None:
        assert pytest.approx(368.8, abs=0.05) == Z2 * 0.6 * 0.4 / 0.05**2
        assert questions_to_settle(0.55, 100, 0.6) == 269
        # The chance that they do settle it, at a true accuracy of 0.55: exact binomial.
        for further, chance in [(269, 0.48), (2 * 269, 0.74)]:
            weak = [k for k in range(further + 1) if wilson(55 + k, 100 + further).high < 0.6]
            assert below_chance(max(weak), further, 0.55) == pytest.approx(chance, abs=5e-3)

    def test_simple_interval_leaves_the_scale(self) -> None:
        assert bounds(plus_minus(57, 60)) == pytest.approx((0.895, 1.005), abs=5e-4)
        assert bounds(plus_minus(20, 20)) == (1.0, 1.0)
        assert bounds(wilson(57, 60)) == pytest.approx((0.863, 0.983), abs=5e-4)
        assert bounds(wilson(20, 20)) == pytest.approx((0.839, 1.0), abs=5e-4)

    @pytest.mark.parametrize(
        ("n", "truth", "ours", "usual"),
        [(20, 0.95, 0.925, 0.639), (100, 0.95, 0.966, 0.877), (100, 0.6, 0.948, 0.948)],
    )
    def test_coverage_table(self, n: int, truth: float, ours: float, usual: float) -> None:
        assert coverage(n, truth) == pytest.approx(ours, abs=5e-4)
        assert coverage(n, truth, plus_minus) == pytest.approx(usual, abs=5e-4)

    def test_below_chance(self) -> None:
        assert below_chance(20, 100, 0.25) == pytest.approx(0.149, abs=5e-4)
        assert below_chance(10, 100, 0.25) == pytest.approx(0.00014, abs=5e-6)
        assert below_chance(10, 100, 0.25) < SUSPICIOUS < below_chance(12, 100, 0.25)
        assert pytest.approx(1 / 67, abs=5e-4) == 1 - (1 - SUSPICIOUS) ** 15
        assert pytest.approx(0.54, abs=5e-3) == 1 - (1 - 0.05) ** 15

    def test_perfect_scores_on_shared_passages(self) -> None:
        outcomes, names = passages([5] * 20, 5)
        assert bounds(accuracy_interval(outcomes, names)) == pytest.approx((0.839, 1), abs=5e-4)
        outcomes[0] = 0.0
        assert bounds(accuracy_interval(outcomes, names)) == pytest.approx((0.946, 0.998), abs=5e-4)


def coverage(n: int, truth: float, method: Callable[[int, int], Interval] = wilson) -> float:
    """Return the exact probability that the interval of n answers holds the truth."""
    return math.fsum(
        math.comb(n, k) * truth**k * (1 - truth) ** (n - k)
        for k in range(n + 1)
        if truth in method(k, n)
    )


def plus_minus(correct: int, n: int) -> Interval:
    """Return the usual ± 1.96 standard errors, which the project does not use."""
    share = correct / n
    half = math.sqrt(Z2 * share * (1 - share) / n)
    return Interval(share - half, share + half)


# --- pairs
