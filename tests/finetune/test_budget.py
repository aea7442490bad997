from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from domainlift.errors import Misuse
from engines.local.loading import load_config_and_tokenizer
from engines.registry import source
from finetune.budget import Machine, RowPlan, former_speed, plan_rows
from finetune.data.recipe import Recipe
from finetune.jobs import TrainingJob, build_mix, prepared_rows
from finetune.training.settings import NO_BUDGET, TrainingArguments, TrainingBudget
from finetune.training.tokenize import encode

pytest.importorskip("torch")
ROWS = 200


@pytest.fixture
def machine() -> Machine:
    """Reads 1,000 tokens per second, whatever the machine that runs the test."""
    config, tokenizer = load_config_and_tokenizer(source("tiny"), device="cpu")
    return Machine(config, tokenizer, "cpu", speed=1000.0)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    folder = tmp_path / "data" / "drawers"
    folder.mkdir(parents=True)
    rows = [
        {"prompt": f"What is in drawer {n}?", "completion": f" key {n}", "domain": "drawers"}
        for n in range(ROWS)
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return TrainingJob(
        "drawers", Recipe({"drawers": 1.0}, replay=0.0), TrainingArguments(), tmp_path
    )


def planned(job: TrainingJob, machine: Machine) -> RowPlan:
    return plan_rows(job, prepared_rows(job), machine)


def seconds(machine: Machine, job: TrainingJob, plan: RowPlan) -> float:
    rows = build_mix(job, None, plan.rows).rows
    return machine.predict(encode(rows, machine.tokenizer), plan.settings(job.settings)).seconds


def test_a_damaged_adapter_tells_no_speed_and_stops_no_training(job: TrainingJob) -> None:
    damaged = job.workspace / "adapters" / "history" / "v0001"
    damaged.mkdir(parents=True)
    (damaged / "card.json").write_text("{}", encoding="utf-8")
    assert former_speed(job, "tiny", "cpu") is None


def test_nothing_is_chosen_where_everything_fits(machine: Machine, job: TrainingJob) -> None:
    whole = seconds(machine, job, planned(job, machine))
    for budget in (NO_BUDGET, TrainingBudget(seconds=1.5 * whole), TrainingBudget(rows=ROWS)):
        plan = planned(replace(job, budget=budget), machine)
        assert (plan.available, plan.chosen, plan.by) == (ROWS, ROWS, "all rows")
        assert plan.settings(job.settings) == job.settings


@pytest.mark.parametrize(
    ("share", "rows", "passes"), [(0.1, ROWS / 3, 3), (0.2, 2 * ROWS / 3, 3), (0.9, ROWS, 9)]
)
def test_passes_and_then_rows_are_left_out_until_the_time_suffices(
    machine: Machine, job: TrainingJob, share: float, rows: float, passes: float
) -> None:
    whole = seconds(machine, job, planned(job, machine))
    some = replace(job, budget=TrainingBudget(seconds=share * whole))
    plan = planned(some, machine)
    assert plan.chosen == pytest.approx(rows, rel=0.15)
    assert plan.passes == pytest.approx(passes, rel=0.15)
    assert seconds(machine, job, plan) == pytest.approx(share * whole, rel=0.2)
    assert plan == planned(some, machine)


def test_below_one_batch_more_passes_are_left_out_and_below_one_pass_it_is_refused(
    machine: Machine, job: TrainingJob
) -> None:
    whole = seconds(machine, job, planned(job, machine))
    batch = job.settings.batch / ROWS
    plan = planned(replace(job, budget=TrainingBudget(0.2 * batch * whole)), machine)
    assert plan.chosen == pytest.approx(job.settings.batch, abs=2)
    assert plan.passes == pytest.approx(2, rel=0.2)
    with pytest.raises(Misuse, match="too small for one pass") as refused:
        planned(replace(job, budget=TrainingBudget(0.01 * batch * whole)), machine)
    assert "--budget-minutes" in str(refused.value.hint)


def test_what_the_user_sets_wins(machine: Machine, job: TrainingJob) -> None:
    asked = replace(job, budget=TrainingBudget(rows=20))
    plan = plan_rows(
        asked, prepared_rows(asked), machine, {"drawers": ["What is in drawer 7? key 7"]}
    )
    assert (plan.chosen, plan.passes) == (20, None)
    assert plan.by == "20 near 1 questions that the model gets wrong"
    assert plan.rows is not None
    assert plan.rows["drawers"][0].completion == " key 7"
    whole = seconds(machine, job, plan)
    timed = planned(replace(job, budget=TrainingBudget(0.5 * whole, 20)), machine)
    assert (timed.chosen, timed.passes) == (20, pytest.approx(5, rel=0.2))
    few = replace(job, settings=replace(job.settings, steps=2), budget=TrainingBudget(60.0))
    assert planned(few, machine).settings(few.settings).steps == 2


def test_the_default_gives_way_to_what_the_user_sets() -> None:
    settings = TrainingArguments()
    assert settings.budget(None, None) == TrainingBudget(1800.0, None)
    assert settings.budget(1.0, None) == TrainingBudget(60.0, None)
    assert settings.budget(None, 50) == TrainingBudget(None, 50)
    assert settings.budget(2.0, 50) == TrainingBudget(120.0, 50)
    assert replace(settings, steps=6).budget(None, None) == NO_BUDGET
