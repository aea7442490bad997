from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.held_out.choice import Choice, ChoiceRule
from benchmarks.held_out.gate import GateVerdict, Promotion
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.results.improve_result import (
    BestForm,
    HeldOutResult,
    ImproveResult,
    RetestNoise,
    TreatmentScore,
)
from benchmarks.results.pairing import paired_changes
from benchmarks.scoring.forms import FormScore
from domainlift.stats.intervals import wilson
from domainlift.stats.paired import paired
from improve.diagnose import diagnose
from reports.improve import ImproveView
from tests.helpers import made_runs as made

SHARES = {"own": 0.25, "form": 0.6, "lora": 0.62}


@pytest.fixture
def improved(tmp_path: Path) -> Any:
    """Make what was found on two runs in which law has answers on one side only."""

    def make(**more: Any) -> ImproveResult:
        outcomes = {"law": [*made.outcomes(both=2, fixed=1, neither=1), (None, True), (True, None)]}
        before, after = made.two(tmp_path, outcomes)
        found = ImproveResult(
            "tiny", "demo", diagnose(evaluate_run(before), RetestNoise(4, 0, wilson(0, 4)))
        )
        if not more:
            return found
        proof = HeldOutResult(
            change=paired_changes(before, after),
            promotion=Promotion(GateVerdict.INCONCLUSIVE, "few", {}, ()),
            controls={},
            routed=1.0,
            look=1,
            level=0.03,
            due=False,
        )
        return ImproveResult(found.model, found.suite, found.diagnosis, proof=proof)

    return make


def test_without_a_weak_domain_nothing_is_said_of_treatments(
    improved: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ImproveView().close(improved())
    assert "nothing is proposed: no domain is weak\n" in capsys.readouterr().out


def test_the_form_stands_between_the_base_model_and_what_is_done_on_top_of_it(
    improved: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    score = {name: TreatmentScore(50, share, 20.0, 0.1) for name, share in SHARES.items()}
    found = replace(
        improved(),
        form=BestForm("cloze/5", {"cloze/5": FormScore(0.6, 50, 90.0)}),
        own_form={"law": score["own"]},
        treatments={"law": {"base": score["form"], "lora": score["lora"]}},
        chosen={"law": Choice("base", ChoiceRule.GAIN_TOO_SMALL, "lora")},
    )
    data = found.as_json()
    assert data["form"]["label"] == "cloze/5"
    assert data["form"]["tried"] == {"cloze/5": {"accuracy": 0.6, "n": 50, "tokens": 90.0}}
    law = data["domains"]["law"]
    named = {name: law[name]["accuracy"] for name in ("base", "form", "lora")}
    assert named == {"base": 0.25, "form": 0.6, "lora": 0.62}
    assert (law["rag"], law["chosen"]) == (None, "form")
    ImproveView().tell(found)
    table = capsys.readouterr().out.split("What each treatment does")[1].splitlines()
    assert table[1].split()[:4] == ["domain", "base", "form", "lora"]
    assert table[2].split()[1:6:2] == ["0.250", "0.600", "0.620"]
    # Where the tasks' own form is the best, it is the form, too.
    plain = replace(found, form=BestForm(), own_form={"law": score["form"]}).as_json()
    assert plain["domains"]["law"]["form"] == plain["domains"]["law"]["base"]
    assert plain["domains"]["law"]["chosen"] == "base"


@pytest.mark.parametrize(
    ("form", "own", "word"),
    [
        ([False] * 20, [True] * 12 + [False] * 8, "knowledge"),
        ([False] * 20, [True] * 3 + [False] * 17, "not shown to be more than the form of answers"),
        ([True] * 12 + [False] * 8, [False] * 20, "not shown to be more than the form of answers"),
    ],
)
def test_what_an_adapter_of_form_gains_as_well_is_no_knowledge(
    form: list[bool], own: list[bool], word: str, improved: Any, capsys: Any
) -> None:
    change = paired(form, own, [""] * 20)
    found = replace(improved(), beyond_form={"law": change})
    ImproveView().close(found)
    [line] = [each for each in capsys.readouterr().out.splitlines() if "beyond" in each]
    assert line.startswith(
        f"lora of law beyond a form adapter, which saw no row of it: {change.difference:+.3f}"
    )
    assert line.endswith(f"n 20: {word}")
    told = found.as_json()["domains"]["law"]["lora_beyond_form"]
    assert (told["delta"], told["p"]) == (change.difference, change.p)


def test_a_row_is_over_the_questions_that_both_answered(
    improved: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = improved(proof=True)
    held = found.as_json()["domains"]["law"]["held_out"]
    assert (held["n"], held["baseline"], held["candidate"], held["delta"]) == (4, 0.5, 0.75, 0.25)
    ImproveView().close(found)
    table = capsys.readouterr().out.split("The ensemble (held-out questions)")[1]
    for name in ("law", "overall"):
        (row,) = [line for line in table.splitlines() if line.startswith(name)]
        assert row.split()[1:5] == ["4", "0.500", "0.750", "+0.250"]
