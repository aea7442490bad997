from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.results.comparison import ChangeLabel, Comparison, compare_runs
from benchmarks.results.flips import FlipKind, all_flips
from benchmarks.results.pairing import pair_runs, paired_changes
from domainlift.errors import Malformed, Misuse, NoSuch
from reports.compare_json import as_json
from reports.format import verdict_text
from tests.helpers import made_runs as made


@pytest.fixture
def compared(tmp_path: Path) -> Any:
    """Compare two runs with these outcomes."""

    def run(outcomes: Any, **after: Any) -> Comparison:
        return compare_runs(*made.two(tmp_path, outcomes, **after))

    return run


class TestFigures:
    def test_a_domain_in_numbers(self, compared: Any) -> None:
        found = compared({"law": made.outcomes(both=50, fixed=15, broken=5, neither=30)})
        row = found.domains["law"]
        assert (row.n, row.gains, row.losses) == (100, 15, 5)
        assert (row.baseline, row.candidate, row.difference) == (0.55, 0.65, pytest.approx(0.10))
        # docs/statistics.md, "Before and after".
        assert (row.interval.low, row.interval.high) == pytest.approx((0.010, 0.186), abs=5e-4)
        assert row.p == pytest.approx(0.0414, abs=1e-4)
        assert row.kinds == {"broken": 5, "fixed": 15, "neither": 30, "both": 50}
        assert 0.1 < row.detectable < 0.16

    def test_they_are_those_of_a_pair_of_runs(self, tmp_path: Path) -> None:
        runs = made.two(
            tmp_path,
            {"a": made.outcomes(3, 9, 2, 4), "b": [*made.outcomes(9, 1, 8, 2), (None, True)]},
        )
        found, simple = compare_runs(*runs), paired_changes(*runs)
        for name, row in {**found.domains, "": found.overall}.items():
            assert (row.n, row.gains, row.losses) == (
                simple[name].n,
                simple[name].gains,
                simple[name].losses,
            )
            assert row.interval == simple[name].interval
            assert row.p == pytest.approx(simple[name].p)

    def test_p_is_adjusted_over_domains_that_have_answers(self, compared: Any) -> None:
        some = made.outcomes(both=20, fixed=9, broken=1)
        found = compared({"a": some, "b": some, "c": [(None, True)] * 3})
        assert found.domains["a"].p_holm == pytest.approx(2 * found.domains["a"].p)
        assert found.overall.p_holm == found.overall.p

    def test_questions_on_one_passage_count_for_less(self, tmp_path: Path) -> None:
        def rows(after: bool, alone: bool) -> Any:
            asked = [made.question(n, cluster="" if alone else f"c{n // 5}") for n in range(40)]
            return [(q, made.record(q, after and n < 15)) for n, q in enumerate(asked)]

        p = {}
        for alone in (True, False):
            folder = tmp_path / str(alone)
            runs = [made.store(folder, str(after), rows(after, alone)) for after in (False, True)]
            p[alone] = compare_runs(*runs).overall.p
        assert p[True] < 0.001 < p[False]

    def test_the_largest_loss_comes_first(self, compared: Any) -> None:
        found = compared(
            {
                "up": made.outcomes(fixed=5, both=5),
                "down": made.outcomes(broken=5, both=5),
                "none": [(None, None)],
                "same": made.outcomes(both=9),
            }
        )
        assert list(found.domains) == ["down", "same", "up", "none"]

    @settings(max_examples=25)
    @given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("ab")), min_size=1))
    def test_the_kinds_add_up(self, tmp_path_factory: Any, rows: Any) -> None:
        outcomes: dict[str, list[tuple[bool, bool]]] = {}
        for before, after, domain in rows:
            outcomes.setdefault(domain, []).append((before, after))
        found = compare_runs(*made.two(tmp_path_factory.mktemp("w"), outcomes))
        assert sum(found.overall.kinds.values()) == found.overall.n == len(rows)
        for kind in FlipKind:
            assert found.overall.kinds[kind] == sum(r.kinds[kind] for r in found.domains.values())
            shown = [flip for flip in found.flips if flip.kind is kind]
            assert len(shown) == min(found.overall.kinds[kind], len(shown))


class TestWords:
    @pytest.mark.parametrize(
        ("kinds", "word"),
        [
            ({"fixed": 30, "both": 70}, ChangeLabel.BETTER),
            ({"broken": 30, "both": 70}, ChangeLabel.WORSE),
            ({"fixed": 4, "broken": 3, "both": 700}, ChangeLabel.NO_CHANGE),
            ({"fixed": 4, "broken": 3, "both": 20}, ChangeLabel.NO_EVIDENCE),
            ({"both": 20}, ChangeLabel.NO_EVIDENCE),
            ({"both": 200}, ChangeLabel.NO_CHANGE),
            ({"fixed": 1}, ChangeLabel.NO_EVIDENCE),
            ({"broken": 1}, ChangeLabel.NO_EVIDENCE),
        ],
    )
    def test_a_row_in_a_word(self, kinds: Any, word: ChangeLabel, compared: Any) -> None:
        found = compared({"law": made.outcomes(**kinds)})
        assert found.domains["law"].word is word
        assert found.regressed == (["law"] if word is ChangeLabel.WORSE else [])

    def test_many_domains_make_luck_likelier(self, compared: Any) -> None:
        lucky = made.outcomes(both=20, fixed=8, broken=1)
        assert compared({"a": lucky}).domains["a"].word is ChangeLabel.BETTER

    def test_among_ten_domains_the_same_is_no_evidence(self, compared: Any) -> None:
        lucky, dull = made.outcomes(both=20, fixed=8, broken=1), made.outcomes(both=20, fixed=1)
        found = compared({"a": lucky} | {f"d{n}": dull for n in range(9)})
        assert found.domains["a"].word is ChangeLabel.NO_EVIDENCE

    @pytest.mark.parametrize(
        ("kinds", "begins"),
        [
            ({"fixed": 30, "both": 70}, "Better by 30.0 points: after against before (95 %"),
            ({"broken": 30, "both": 70}, "Worse by 30.0 points: after against before (95 %"),
            ({"both": 200}, "No change: after against before, 0.0 points (95 %"),
            ({"fixed": 1}, "No evidence of a difference: after against before, +100.0 points"),
        ],
    )
    def test_the_verdict(self, kinds: Any, begins: str, compared: Any) -> None:
        said = str(verdict_text(compared({"law": made.outcomes(**kinds)})))
        assert said.startswith(begins)
        assert said.endswith(".")

    def test_the_verdict_names_what_moved_and_treatments(self, compared: Any) -> None:
        found = compared(
            {
                "law": made.outcomes(fixed=30, both=10),
                "art": made.outcomes(broken=20, both=10),
                "sea": made.outcomes(both=10),
            },
            settings={"treatment": "ensemble"},
        )
        said = str(verdict_text(found))
        assert "ensemble against base" in said
        assert "better in law, worse in art, not significantly different in 1 of 3 domains" in said


class TestSurvives:
    def test_disjoint_runs(self, tmp_path: Path) -> None:
        runs = [
            made.store(tmp_path, f"r{n}", [(made.question(n), made.record(made.question(n), True))])
            for n in range(2)
        ]
        with pytest.raises(Misuse, match="no question in common") as caught:
            compare_runs(*runs)
        assert caught.value.hint is not None

    def test_one_run_twice(self, tmp_path: Path) -> None:
        before, _ = made.two(tmp_path, {"a": made.outcomes(both=1)})
        with pytest.raises(Misuse, match="with itself"):
            compare_runs(before, before)

    def test_overlapping_runs(self, tmp_path: Path) -> None:
        asked = [made.question(n, "law" if n < 8 else "art") for n in range(10)]
        before = made.store(tmp_path, "before", [(q, made.record(q, True)) for q in asked[:7]])
        after = made.store(tmp_path, "after", [(q, made.record(q, True)) for q in asked[3:]])
        found = compare_runs(before, after)
        assert found.overall.n == 4
        assert found.warnings[0].startswith(
            "the runs ask DIFFERENT QUESTIONS: 4 are in both and compared, 3 are only in "
            "`before` and 3 only in `after`"
        )
        assert "not compared, as only in `after`: art 2" in found.warnings
        assert list(found.domains) == ["law"]

    def test_duplicates(self, tmp_path: Path) -> None:
        asked = [made.question(n) for n in (0, 1, 1, 2)]
        rows = [(q, made.record(q, True)) for q in asked]
        again = [*rows, (asked[0], made.record(asked[0], False))]
        found = compare_runs(made.store(tmp_path, "b", rows), made.store(tmp_path, "a", again))
        assert found.overall.n == 3
        # The later answer counts, as in the store itself.
        assert found.overall.losses == 1
        assert "1 questions stand more than once in `b`; each counts once" in found.warnings

    def test_one_id_for_two_questions(self, tmp_path: Path) -> None:
        same, other = made.question(1), made.question(2)
        changed = made.question(2, text="Another text?")
        before = made.store(tmp_path, "b", [(q, made.record(q, True)) for q in (same, other)])
        after = made.store(tmp_path, "a", [(q, made.record(q, True)) for q in (same, changed)])
        found = compare_runs(before, after)
        assert found.overall.n == 1
        assert any("same id" in warning for warning in found.warnings)
        only = made.store(tmp_path, "c", [(changed, made.record(changed, True))])
        with pytest.raises(Misuse, match="different questions under the same"):
            compare_runs(before, only)

    def test_a_run_with_errors_only(self, compared: Any) -> None:
        found = compared({"law": [(True, None)] * 5})
        row = found.domains["law"]
        assert (row.n, row.baseline, row.word) == (0, None, ChangeLabel.NO_ANSWERS)
        assert row.sides[1].errors == 5
        assert str(verdict_text(found)) == (
            "Nothing can be said: no question has an answer in both runs."
        )
        assert any("5 of 5 questions have no answer in `after`" in w for w in found.warnings)
        assert found.flips == ()

    def test_one_question(self, compared: Any) -> None:
        found = compared({"law": [(False, True)]})
        assert (found.overall.n, found.overall.detectable) == (1, math.inf)
        assert as_json(found)["overall"]["detectable"] is None
        assert "so few questions can show nothing" in str(verdict_text(found))

    def test_an_unfinished_run(self, tmp_path: Path) -> None:
        asked = [made.question(n) for n in range(4)]
        before = made.store(tmp_path, "b", [(q, made.record(q, True)) for q in asked])
        rows = [(q, made.record(q, True) if n else None) for n, q in enumerate(asked)]
        found = compare_runs(before, made.store(tmp_path, "a", rows, finished=False))
        assert (found.overall.n, found.overall.sides[1].missing) == (3, 1)
        assert any("(missing 1)" in warning for warning in found.warnings)

    def test_a_torn_last_line(self, tmp_path: Path) -> None:
        before, after = made.two(tmp_path, {"a": made.outcomes(both=3)})
        path = after.folder / "answers.jsonl"
        path.write_bytes(path.read_bytes()[:-5])
        assert compare_runs(before, after).overall.sides[1].missing == 1

    @pytest.mark.parametrize("line", ["{", "[]", '{"id": "q0"}', "1", '"x"'])
    def test_a_broken_line_is_named(self, line: str, tmp_path: Path) -> None:
        before, after = made.two(tmp_path, {"a": made.outcomes(both=3)})
        with (after.folder / "answers.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        with pytest.raises(Malformed, match=r"answers\.jsonl:4: not a stored record"):
            compare_runs(before, after)

    def test_what_was_joined_is_not_joined_again(self, tmp_path: Path) -> None:
        runs = made.two(tmp_path, {"law": made.outcomes(both=3), "art": made.outcomes(fixed=2)})
        joined, whole = pair_runs(*runs, ["art"]), compare_runs(*runs, pair_runs(*runs, ["art"]))
        for run in runs:
            (run.folder / "questions.jsonl").write_text("not read\n", encoding="utf-8")
        found = compare_runs(*runs, joined, top=0)
        assert (found.domains, found.warnings) == (whole.domains, whole.warnings)

    def test_of_chosen_domains_only_theirs_are_told(self, tmp_path: Path) -> None:
        def rows(changed: str, more: int) -> Any:
            asked = [made.question(n, "law" if n < 4 else "art") for n in range(8)]
            asked[5] = made.question(5, "art", text=changed)
            asked += [made.question(6, "art"), *(made.question(n, "sea") for n in range(90, more))]
            return [(q, made.record(q, True)) for q in asked]

        runs = [
            made.store(tmp_path, "b", rows("One?", 92)),
            made.store(tmp_path, "a", rows("Two?", 91)),
        ]
        assert len(compare_runs(*runs).warnings) == 4
        told = compare_runs(*runs, pair_runs(*runs, ["law"])).warnings
        assert [each[:30] for each in told] == ["only some domains are compared"]
        assert len(compare_runs(*runs, pair_runs(*runs, ["art"])).warnings) == 4

    def test_an_unknown_domain(self, tmp_path: Path) -> None:
        runs = made.two(tmp_path, {"law": made.outcomes(both=3), "art": made.outcomes(both=2)})
        assert list(compare_runs(*runs, pair_runs(*runs, ["art"])).domains) == ["art"]
        with pytest.raises(NoSuch, match="no domain in both runs `lew`"):
            compare_runs(*runs, pair_runs(*runs, ["lew"]))


class TestDiffers:
    @pytest.mark.parametrize(
        ("after", "told"),
        [
            ({"settings": {"seed": 7}}, "setting `seed`: `0` → `7`"),
            ({"fingerprint": {"data": "x"}}, "the data differ"),
            ({"fingerprint": {"prompts": "x"}}, "the prompts differ"),
            ({"engine": {"options": {"temperature": 1}}}, "engine option `temperature`: `0` → `1`"),
            ({"versions": {"torch": "3"}}, "versions differ in `torch`: none → `3`"),
            (
                {"settings": {"tasks": {"exam": {"scoring": "cloze", "shots": 5}}}},
                "`exam`: asked as letter with 0 examples, then as cloze with 5 examples",
            ),
        ],
    )
    def test_a_difference_is_told(self, after: Any, told: str, compared: Any) -> None:
        found = compared({"law": made.outcomes(both=3)}, **after)
        assert any(warning.startswith(told) for warning in found.warnings)

    def test_model_and_treatment_are_what_is_compared(self, compared: Any) -> None:
        found = compared(
            {"law": made.outcomes(both=3)},
            model="other",
            fingerprint={"model": "x", "treatment": "y"},
            settings={"command": "bench run --other", "treatment": "passages"},
        )
        assert found.warnings == ()
        assert "other (rag) against made (base)" in str(verdict_text(found))

    def test_asking_again_is_called_so(self, compared: Any) -> None:
        found = compared({"law": made.outcomes(both=3)})
        assert "noise of asking again" in found.notes[0]

    @pytest.mark.parametrize(
        ("part", "told"),
        [
            ("prompts", "what differs is how they were asked (way of scoring"),
            ("engine", "what differs is the engine or its options"),
            ("data", "what differs is the data"),
        ],
    )
    def test_what_differs_is_not_called_noise(self, compared: Any, part: str, told: str) -> None:
        found = compared({"law": made.outcomes(both=3)}, fingerprint={part: "z"})
        assert told in found.notes[0]
        assert "noise" not in found.notes[0]

    def test_a_score_below_chance_is_a_fault(self, compared: Any) -> None:
        found = compared({"law": made.outcomes(broken=60)})
        assert any("below chance in run `after`" in warning for warning in found.warnings)

    def test_leaked_questions_are_left_out_of_the_claim(self, tmp_path: Path) -> None:
        asked = [made.question(n) for n in range(20)]
        before = made.store(tmp_path, "b", [(q, made.record(q, False)) for q in asked])
        rows = [
            (q, made.record(q, n < 10, leak="c1" if n < 10 else "")) for n, q in enumerate(asked)
        ]
        found = compare_runs(before, made.store(tmp_path, "a", rows))
        clean = found.domains["history"].clean
        assert clean is not None
        assert (clean.n, clean.difference) == (10, 0.0)
        assert any("10 of 20 questions of `history` stand in" in w for w in found.warnings)


class TestFlips:
    def test_regressions_come_first_and_domains_take_turns(self, compared: Any) -> None:
        some = made.outcomes(both=3, fixed=3, broken=3, neither=3)
        found = compared({"law": some, "art": some})
        assert [flip.kind for flip in found.flips] == (
            ["broken"] * 6 + ["fixed"] * 6 + ["neither"] * 6 + ["both"] * 6
        )
        assert [flip.domain for flip in found.flips[:4]] == ["art", "law", "art", "law"]

    def test_a_flip_says_all(self, tmp_path: Path) -> None:
        asked = made.question(1)
        found_ = (
            {"id": "c1", "source": "Cities", "place": "cities.md#Rome", "score": 0.1, "dense": 0.9},
            {"id": "c2", "source": "Rivers", "place": "rivers.md", "score": 0.0, "dense": None},
        )
        more = {"treatment": "rag, adapter law-v0001", "passages": ("c1",), "retrieved": found_}
        before = made.store(tmp_path, "b", [(asked, made.record(asked, True))])
        after = made.store(tmp_path, "a", [(asked, made.record(asked, False, **more))])
        (flip,) = compare_runs(before, after).flips
        assert (flip.kind, flip.gold, flip.options[1]) == ("broken", 1, "Rome")
        assert flip.before.probabilities == pytest.approx((0.1, 0.7, 0.1, 0.1))
        assert (flip.before.chosen, flip.after.chosen) == (1, 2)
        assert flip.after.treatment == "rag, adapter law-v0001"
        assert [(s.place, s.score, s.used) for s in flip.after.sources] == [
            ("cities.md#Rome", 0.9, True),
            ("rivers.md", 0.0, False),
        ]

    def test_routes_are_read_where_there_are_any(self, tmp_path: Path) -> None:
        asked = [made.question(0, "law"), made.question(1, "law"), made.question(2, "art")]
        before = made.store(tmp_path, "b", [(q, made.record(q, False)) for q in asked])
        plain = made.store(tmp_path, "p", [(q, made.record(q, True)) for q in asked])
        assert compare_runs(before, plain).routes.n == 0
        given = [
            {"route": "law", "decided_by": "keywords", "matched": ("court",)},
            {"route": "art", "decided_by": "classifier"},
            {},
        ]
        rows = [(q, made.record(q, True, **more)) for q, more in zip(asked, given, strict=True)]
        found = compare_runs(before, made.store(tmp_path, "a", rows))
        assert found.routes.confusion == {("law", "law"): 1, ("law", "art"): 1, ("art", "base"): 1}
        assert (found.routes.covered, found.routes.right) == (pytest.approx(2 / 3), 0.5)
        assert {flip.after.matched for flip in found.flips} == {("court",), ()}

    def test_only_the_most_telling_are_kept(self, tmp_path: Path) -> None:
        runs = made.two(tmp_path, {"law": made.outcomes(fixed=60, broken=60)})
        kept = compare_runs(*runs, top=20).flips
        assert (len(kept), sum(flip.kind is FlipKind.BROKEN for flip in kept)) == (20, 13)
        assert len(list(all_flips(pair_runs(*runs).pairs, runs))) == 120
        assert compare_runs(*runs, top=0).flips == ()

    @pytest.mark.parametrize(
        ("top", "kept"),
        [
            (0, (0, 0, 0, 0)),
            (1, (1, 0, 0, 0)),
            (2, (1, 1, 0, 0)),
            (4, (2, 1, 1, 0)),
            (20, (6, 9, 2, 3)),  # broken leaves 3 of its places: 2 to fixed, 1 to both
            (25, (6, 9, 2, 8)),
            (100, (6, 9, 2, 40)),
        ],
    )
    def test_places_are_handed_on_and_never_more_than_asked(
        self, top: int, kept: tuple[int, ...], tmp_path: Path
    ) -> None:
        some = made.outcomes(broken=6, fixed=9, neither=2, both=40)
        flips = compare_runs(*made.two(tmp_path, {"law": some}), top=top).flips
        assert tuple(sum(flip.kind is kind for flip in flips) for kind in FlipKind) == kept

    def test_a_megabyte_is_cut_and_written_whole(self, tmp_path: Path) -> None:
        asked = made.question(1)
        rows = [
            (
                name,
                made.store(tmp_path, name, [(asked, made.record(asked, right, text="x" * 10**6))]),
            )
            for name, right in (("b", True), ("a", False))
        ]
        runs = [run for _, run in rows]
        (flip,) = compare_runs(*runs).flips
        assert flip.after.text is not None
        assert len(flip.after.text) < 5000
        assert flip.after.text.endswith("(996,000 more characters)")
        (whole,) = all_flips(pair_runs(*runs).pairs, (runs[0], runs[1]))
        assert len(whole["after"]["text"]) == 10**6
        assert (whole["baseline"], whole["candidate"], whole["kind"]) == ("b", "a", "broken")

    @pytest.mark.parametrize("value", [math.nan, -math.inf])
    def test_probabilities_that_are_none(self, value: float, tmp_path: Path) -> None:
        asked = made.question(1)
        runs = [
            made.store(tmp_path, name, [(asked, made.record(asked, right, logprobs=(value,) * 4))])
            for name, right in (("b", True), ("a", False))
        ]
        found = compare_runs(*runs)
        assert found.flips[0].after.probabilities == ()
        json.dumps(as_json(found), allow_nan=False)

    def test_an_open_answer(self, tmp_path: Path) -> None:
        asked = made.question(1, options=(), answer="42")
        runs = [
            made.store(tmp_path, name, [(asked, made.record(asked, right, chosen=said, text=said))])
            for name, right, said in (("b", False, "41"), ("a", True, "42"))
        ]
        (flip,) = compare_runs(*runs).flips
        assert (flip.gold, flip.options, flip.before.chosen) == ("42", (), "41")


class TestSides:
    def test_retrieval_and_costs(self, tmp_path: Path) -> None:
        asked = [made.question(n, support="a.md#One") for n in range(4)]
        hit = ({"id": "c1", "place": "a.md#One"},)
        miss = ({"id": "c2", "place": "b.md"},)
        before = made.store(tmp_path, "b", [(q, made.record(q, True)) for q in asked])
        given = [
            {
                "searched": True,
                "retrieved": hit,
                "passages": ("c1",),
                "prompt_tokens": 80,
                "seconds": 2.0,
            },
            {"searched": True, "retrieved": miss, "prompt_tokens": 40, "seconds": 1.0},
            {"seconds": 0.0},
            {"seconds": 0.0, "adapter": "law-v1"},
        ]
        rows = [(q, made.record(q, True, **more)) for q, more in zip(asked, given, strict=True)]
        side = compare_runs(before, made.store(tmp_path, "a", rows)).overall.sides[1]
        assert (side.retrieved, side.n_with_passages, side.hits, side.supported, side.adapted) == (
            2,
            1,
            1,
            2,
            1,
        )
        assert (side.prompt_tokens, side.seconds) == (40.0, 1.5)

    @pytest.mark.parametrize(
        ("places", "searched", "counts"),
        [
            (["a.md#One"], True, (1, 1)),
            (["b.md", "a.md#One#2"], True, (1, 1)),
            (["a.md#One too"], True, (0, 1)),
            (["a.md"], True, (0, 1)),
            ([], True, (0, 1)),
            ([], False, (0, 0)),
        ],
    )
    def test_a_search_that_did_not_find_it_is_a_miss(
        self, places: list[str], searched: bool, counts: tuple[int, int], tmp_path: Path
    ) -> None:
        asked = made.question(1, support="a.md#One")
        found = tuple({"id": str(n), "place": place} for n, place in enumerate(places))
        answer = made.record(asked, True, retrieved=found, searched=searched)
        before = made.store(tmp_path, "b", [(asked, made.record(asked, True))])
        side = compare_runs(before, made.store(tmp_path, "a", [(asked, answer)])).overall.sides[1]
        assert (side.hits, side.supported) == counts

    def test_tokens_are_means_over_answered_questions(self, tmp_path: Path) -> None:
        asked = [made.question(n) for n in range(3)]
        before = made.store(tmp_path, "b", [(q, made.record(q, True)) for q in asked])
        rows = [
            (asked[0], made.record(asked[0], True, prompt_tokens=10, output_tokens=2)),
            (asked[1], made.record(asked[1], False, prompt_tokens=30, output_tokens=4)),
            (asked[2], made.record(asked[2], None, prompt_tokens=0, output_tokens=0)),
        ]
        side = compare_runs(before, made.store(tmp_path, "a", rows)).overall.sides[1]
        assert (side.prompt_tokens, side.output_tokens) == (20.0, 3.0)
        silent = [(q, made.record(q, None)) for q in asked]
        side = compare_runs(before, made.store(tmp_path, "s", silent)).overall.sides[1]
        assert (side.prompt_tokens, side.output_tokens) == (0.0, 0.0)

    def test_unparsed_cut_off_and_truncated_have_their_own_columns(self, tmp_path: Path) -> None:
        asked = [made.question(n) for n in range(4)]
        before = made.store(tmp_path, "b", [(q, made.record(q, True)) for q in asked])
        rows = [
            (asked[0], made.record(asked[0], False, status="unparsed")),
            (asked[1], made.record(asked[1], None, status="truncated")),
            (asked[2], made.record(asked[2], None)),
            (asked[3], made.record(asked[3], False, status="cut_off")),
        ]
        found = compare_runs(before, made.store(tmp_path, "a", rows))
        side = found.overall.sides[1]
        assert (found.overall.n, side.unparsed, side.truncated, side.errors) == (2, 1, 1, 1)
        assert (side.cut_off, side.faulty) == (1, 4)
        assert as_json(found)["overall"]["sides"]["candidate"]["cut_off"] == 1


class TestJson:
    def test_it_has_what_was_promised(self, compared: Any) -> None:
        data = json.loads(json.dumps(as_json(compared({"law": made.outcomes(both=9, fixed=9)}))))
        keys = {"schema", "baseline", "candidate", "domains", "overall", "warnings", "verdict"}
        assert keys <= data.keys()
        row = {"n", "baseline", "candidate", "delta", "interval", "p", "p_holm", "gained", "lost"}
        assert row | {"detectable", "word"} <= data["domains"]["law"].keys()
        assert (data["schema"], data["baseline"], data["candidate"]) == (1, "before", "after")
        assert data["domains"]["law"]["word"] == "better"

    def test_the_kinds_shown_are_chosen(self, compared: Any) -> None:
        found = compared({"law": made.outcomes(fixed=2, broken=1)})
        assert {flip["kind"] for flip in as_json(found, (FlipKind.FIXED,))["flips"]} == {"fixed"}
