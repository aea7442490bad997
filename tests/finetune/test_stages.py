"""Stages after sft on a small random model: their reference, their end, and their resumption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from domainlift.errors import BenchError, Misuse
from domainlift.workspace import Workspace
from engines.local.engine import TransformersEngine
from finetune.adapters.methods import attach, detach
from finetune.adapters.registry import AdapterRegistry
from finetune.data.prepare import prepare_rows
from finetune.data.recipe import Recipe, with_stages
from finetune.data.rows import Row
from finetune.jobs import TrainingJob, training_arguments
from finetune.stages import chain as chains
from finetune.stages import trainer_run
from finetune.stages.reward_model import RewardModel, reward_network, scores
from finetune.stages.stage_settings import REINFORCEMENT
from finetune.stages.trainers import StageJob, open_trainer, pair_tokens
from finetune.train_adapter import TrainingResult, train_adapter
from finetune.training.settings import TrainingBudget

FAST = ["rank=4", "epochs=2", "batch=8", "eval_every=0", "max_tokens=64"]


def _nothing(*_: Any) -> None:
    """Watch nothing."""


def _pairs(count: int = 40) -> list[Row]:
    return [
        Row(
            f"Number {n} is", f" {'even' if n % 2 else 'odd'} and more", "d", rejected=f" wrong {n}"
        )
        for n in range(count)
    ]


def _sums(count: int = 40) -> list[Row]:
    return [Row(f"Make {n + 5} of {n} and 5:", f" {n} + 5", "d") for n in range(1, count)]


def _job(workspace: Path, rows: list[Row], stages: str, *changes: str) -> TrainingJob:
    folder = Workspace(workspace).data_set("d")
    if not folder.is_dir():
        prepare_rows("d", rows, folder=folder)
    recipe, rest = with_stages(Recipe({"d": 1.0}, replay=0), stages, [*FAST, *changes])
    return TrainingJob("d", recipe, training_arguments(recipe, rest), workspace, own=True)


@pytest.fixture
def engine(base_model: tuple[Any, Any]) -> TransformersEngine:
    return TransformersEngine(*base_model, name="random", digest="sha256:1")


def _train(job: TrainingJob, engine: TransformersEngine) -> TrainingResult:
    return train_adapter(job, engine, _nothing, _nothing)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def _same(one: Path, other: Path) -> bool:
    left, right = _weights(one), _weights(other)
    return left.keys() == right.keys() and all(left[k].equal(right[k]) for k in left)


def test_a_chain_keeps_a_checkpoint_per_stage_and_leaves_the_model_as_it_was(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    model, tokenizer = engine.model, engine.tokenizer
    before = (model.config.use_cache, tokenizer.padding_side, engine.model.forward.__func__)
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    made = _train(_job(tmp_path, _pairs(), "sft,dpo", "dpo.steps=3", "dpo.batch=4"), engine)
    after = (model.config.use_cache, tokenizer.padding_side, engine.model.forward.__func__)
    assert after == before
    assert not model.training
    assert all(weights[name].equal(weight) for name, weight in model.named_parameters())
    shown = made.as_json()
    assert shown["kept"] == "dpo"
    assert list(shown["stages"]) == ["sft", "dpo"]
    dpo = shown["stages"]["dpo"]
    assert {"checkpoint", "steps", "loss", "reward", "format", "length", "validation"} <= set(dpo)
    assert dpo["steps"] == 3
    assert dpo["reference"]["checkpoint"] == "sft"
    folder = made.path / "checkpoints"
    names = {path.name for path in folder.iterdir()}
    assert names == {"initial", "sft", "dpo", "final"}
    registry = AdapterRegistry(Workspace(tmp_path).adapters)
    for name in names:  # each can be asked for
        engine.add_adapter(name, registry.open(str(folder / name)).folder)
    assert _same(folder / "final", folder / "dpo")
    assert _same(folder / "final", made.path)
    assert not _same(folder / "sft", folder / "dpo")


def test_the_reference_of_dpo_is_the_adapter_of_sft(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    """TRL before 1.0 takes the base model, which undoes what sft taught."""
    job = _job(tmp_path, _pairs(), "sft", "learning_rate=0.01")
    adapter = _train(job, engine).path
    rows = _pairs(4)
    from peft import PeftModel

    live = PeftModel.from_pretrained(engine.model, str(adapter), is_trainable=True)
    settings = job.recipe.settings_of("dpo")
    stage = StageJob("dpo", rows, settings, job.settings, tmp_path / "trl")
    trainer = open_trainer(stage, live, engine.tokenizer, None)
    batch = trainer.data_collator(list(trainer.train_dataset))
    with torch.no_grad():  # the policy moves away, the reference must not
        for name, weight in live.named_parameters():
            if ".default." in name:
                weight.add_(0.1)
    told = torch.cat(trainer.compute_ref_log_probs(live, batch))
    sft = PeftModel.from_pretrained(live.unload(), str(adapter)).eval()
    tokens = pair_tokens(rows, engine.tokenizer, job.settings)
    for side, values in zip(("chosen_ids", "rejected_ids"), told.chunk(2), strict=True):
        for pair, value in zip(tokens, values, strict=True):
            ids, start = pair["prompt_ids"] + pair[side], len(pair["prompt_ids"])
            with torch.no_grad():
                scores = sft(torch.tensor([ids])).logits[0].log_softmax(-1)
            own = sum(float(scores[at - 1, ids[at]]) for at in range(start, len(ids)))
            with sft.disable_adapter(), torch.no_grad():
                scores = sft(torch.tensor([ids])).logits[0].log_softmax(-1)
                base_scores = sum(float(scores[at - 1, ids[at]]) for at in range(start, len(ids)))
            assert float(value) == pytest.approx(own, abs=1e-3)
            assert abs(own - base_scores) > 0.01


def test_the_loss_of_orpo_is_the_paper_s(tmp_path: Path, engine: TransformersEngine) -> None:
    """Likelihood and odds ratio of the sides alone, each by its mean per token; no reference."""
    job, rows = _job(tmp_path, _pairs(), "orpo", "orpo.steps=1", "orpo.batch=4"), _pairs(4)
    live = attach(engine.model, job.settings)
    stage = StageJob("orpo", rows, job.recipe.settings_of("orpo"), job.settings, tmp_path / "trl")
    trainer = open_trainer(stage, live, engine.tokenizer, None)
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(4)])
    told = float(trainer.compute_loss(live, batch).detach())
    losses = []
    for pair in pair_tokens(rows, engine.tokenizer, job.settings):
        means = []
        for side in ("chosen_ids", "rejected_ids"):
            ids, start = pair["prompt_ids"] + pair[side], len(pair["prompt_ids"])
            scores = live(torch.tensor([ids])).logits[0].log_softmax(-1)
            means.append(
                torch.stack([scores[at - 1, ids[at]] for at in range(start, len(ids))]).mean()
            )
        odds = [mean - (1 - mean.exp()).log() for mean in means]
        ratio = torch.nn.functional.logsigmoid(odds[0] - odds[1])
        losses.append(float((-means[0] - 0.1 * ratio).detach()))
    assert told == pytest.approx(sum(losses) / 4, abs=1e-5)
    detach(live)
    made = _train(job, engine)
    assert made.chain is not None
    assert made.chain.stages["orpo"].reference is None
    assert made.trained.tokens_per_second > 0
    registry = AdapterRegistry(Workspace(tmp_path).adapters)
    assert registry.show("d").speed == {}  # by which the rows of an `sft` would be planned


@pytest.mark.parametrize(
    "stage",
    ["dpo", "rloo", *(pytest.param(n, marks=pytest.mark.slow) for n in ("orpo", "reward", "grpo"))],
)
def test_a_killed_stage_ends_with_the_same_weights(
    stage: str, tmp_path: Path, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_pairs = stage not in REINFORCEMENT
    rows = _pairs(240) if by_pairs else _sums()
    changes = [f"{stage}.steps=4", f"{stage}.batch=4", "save_every=2", f"{stage}.reply_tokens=6"]
    changes.append("steps=6")
    if not by_pairs:
        changes += [f"{stage}.reward=countdown", f"{stage}.generations=2", "end=true"]
    jobs = [_job(tmp_path / name, rows, f"sft,{stage}", *changes) for name in ("one", "two")]
    whole = _train(jobs[0], engine)

    def killed(progress: Any) -> None:
        if progress.step == 3 and progress.steps == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(jobs[1], engine, killed, _nothing)
    resumed = _train(jobs[1], engine)
    assert resumed.chain is not None
    assert resumed.chain.stages[stage].steps == 4
    folders = (made.path / "checkpoints" / stage for made in (whole, resumed))
    assert _same(*folders)


def test_a_stage_that_makes_things_worse_ends_the_chain_with_the_one_before(
    tmp_path: Path, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "_preference", lambda *_: ({}, ["preference"]))
    made = _train(_job(tmp_path, _pairs(), "sft,dpo", "dpo.steps=2", "dpo.batch=4"), engine)
    assert made.chain is not None
    assert made.chain.kept == "sft"
    assert _same(made.path, made.path / "checkpoints" / "sft")
    assert made.chain.stages["dpo"].worse == ("preference",)
    alone = _job(tmp_path, [], "dpo", "dpo.steps=2", "dpo.batch=4")
    with pytest.raises(BenchError, match="made preference worse"):
        _train(alone, engine)


def test_rewards_are_logged_apart_and_a_fault_is_named(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    (tmp_path / "own.py").write_text(
        "def own(reply, reference):\n    return (1.0, 0.0) if len(reply) % 2 else float('nan')\n"
    )
    reward = f"rloo.reward={tmp_path / 'own.py'}:own"
    changes = [reward, "rloo.steps=2", "rloo.batch=8", "rloo.generations=4", "rloo.reply_tokens=8"]
    made = _train(_job(tmp_path, _sums(), "rloo", *changes), engine)
    assert made.chain is not None
    stage = made.chain.stages["rloo"]
    assert stage.accuracy == 0
    assert stage.format is not None
    assert stage.length is not None
    assert 0 < stage.length <= 8
    assert any("returned nan" in fault for fault in stage.faults)
    assert json.loads((made.path / "curves.json").read_text())["stages"]["rloo"]


@pytest.mark.parametrize(
    ("stages", "changes", "what"),
    [
        ("dpo,sft", [], "only be the first"),
        ("reward", [], "answers nothing"),
        ("sft,rloo", ["rloo.reward=model"], "no stage before it makes one"),
        ("sft,reward", [], "validation pairs"),
        ("sft,dpo,dpo", [], "stands twice"),
        ("sft,dop", [], "dpo"),
        ("sft,rloo", [], "no reward"),
        ("sft,dpo", ["dpo.beat=1"], "beta"),
        ("sft,dpo", ["dpo.batch=0"], "not 1 or more"),
        ("sft,rloo", ["rloo.generations=1"], "under 2"),
        ("sft,rloo", ["rloo.reward=countdwon"], "countdown"),
        ("sft,rloo", ["rloo.reward=countdown", "rloo.batch=9"], "no multiple"),
    ],
)
def test_a_misuse_is_named(
    stages: str, changes: list[str], what: str, tmp_path: Path, engine: TransformersEngine
) -> None:
    with pytest.raises(BenchError) as error:
        _train(_job(tmp_path, _sums(), stages, *changes), engine)
    assert what in f"{error.value.what} {error.value.hint}"


def test_a_stage_of_pairs_needs_pairs(tmp_path: Path, engine: TransformersEngine) -> None:
    with pytest.raises(Misuse, match="no pairs"):
        _train(_job(tmp_path, _sums(), "sft,dpo"), engine)


def test_a_recipe_without_stages_is_told_as_before_there_were_any() -> None:
    recipe = Recipe({"d": 1.0})
    assert "stages" not in recipe.as_json()
    assert replace(recipe, stages=("sft", "dpo")).as_json()["stages"] == ("sft", "dpo")


def _ruled(count: int = 400, *, shuffled: bool = False) -> list[Row]:
    """Pairs whose better side is the shorter one, or either."""
    rows = []
    for n in range(count):
        short, long = f" {n % 10}", f" {n % 10} and more of it, and yet more"
        swap = shuffled and n * 2654435761 % 2**32 % 7 > 3
        rows.append(
            Row(
                f"Say {n}:",
                *(long, "d") if swap else (short, "d"),
                rejected=short if swap else long,
            )
        )
    return rows


FOUND = ["steps=6", "reward.steps=30", "reward.batch=16", "reward.learning_rate=0.01"]
WRITTEN = [
    "rloo.reward=model",
    "rloo.steps=2",
    "rloo.batch=4",
    "rloo.generations=2",
    "rloo.reply_tokens=6",
]


def test_a_reward_model_learns_a_rule_and_rewards_replies(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    weights = {name: weight.clone() for name, weight in engine.model.named_parameters()}
    made = _train(_job(tmp_path, _ruled(), "sft,reward,rloo", *FOUND, *WRITTEN), engine)
    assert all(weights[name].equal(weight) for name, weight in engine.model.named_parameters())
    assert made.chain is not None
    reward, rloo = made.chain.stages["reward"], made.chain.stages["rloo"]
    told = reward.validation["pairs"]
    assert told["n"] >= 10
    assert told["interval"][0] > 0.5
    assert (made.chain.kept, reward.end, reward.reference) == ("rloo", "", None)
    assert rloo.reference is not None
    assert rloo.reference["checkpoint"] == "sft"
    assert rloo.reward is not None
    assert (rloo.accuracy, rloo.format) == (None, None)
    folder = made.path / "checkpoints" / "reward"
    with pytest.raises(Misuse, match="reward model"):
        engine.add_adapter("reward", folder)
    # As transformers and PEFT read it, it says of texts what it says beside a policy.
    from peft import PeftModel

    texts = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [12] * 40]
    alone = PeftModel.from_pretrained(reward_network(engine.model), str(folder)).eval()
    alone.config.get_text_config().pad_token_id = engine.tokenizer.eos_token_id
    own = scores(alone, texts, engine.tokenizer.eos_token_id)
    alone.unload()
    policy = PeftModel.from_pretrained(engine.model, str(made.path), is_trainable=True)
    before = policy(torch.tensor([[1, 2, 3]])).logits
    beside = RewardModel(policy, folder, engine.tokenizer)
    assert beside.score(texts) == pytest.approx(own, abs=1e-5)
    assert policy(torch.tensor([[1, 2, 3]])).logits.equal(before)
    assert len({round(value, 3) for value in own}) == 3


def test_a_reward_model_that_found_nothing_ends_the_chain(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    rows = _ruled(shuffled=True)
    made = _train(_job(tmp_path, rows, "sft,reward,rloo", *FOUND, *WRITTEN), engine)
    assert made.chain is not None
    assert list(made.chain.stages) == ["sft", "reward"]
    assert made.chain.kept == "sft"
    assert "not shown to be better than chance on" in made.chain.stages["reward"].end
    assert _same(made.path, made.path / "checkpoints" / "sft")


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes ten seconds, of which none pass."""
    monkeypatch.setattr(chains, "step_seconds", lambda _: [10.0, 10.0])
    monkeypatch.setattr(chains, "train", lambda *given: 0 * trainer_run.train(*given) + 30)


def _bounded(job: TrainingJob, seconds: float) -> TrainingJob:
    return replace(job, budget=TrainingBudget(seconds))


DPO = ["steps=6", "dpo.steps=9", "dpo.batch=4", "orpo.steps=9", "orpo.batch=4"]


@pytest.mark.usefixtures("slow_steps")
def test_a_budget_is_shared_by_the_stages_that_are_left(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    """Of 100 s, 20 of 50 go into measuring, 3 steps fit; so it is with the other 50."""
    made = _train(_bounded(_job(tmp_path, _pairs(), "dpo,orpo", *DPO), 100), engine)
    assert made.chain is not None
    dpo, orpo = made.chain.stages["dpo"], made.chain.stages["orpo"]
    assert (dpo.steps, dpo.steps_asked) == (3, 9)
    assert (orpo.steps, orpo.steps_asked) == (3, 9)
    assert made.chain.kept == "orpo"


@pytest.mark.usefixtures("slow_steps")
def test_a_stage_that_does_not_fit_is_left_out_and_said_so(
    tmp_path: Path, engine: TransformersEngine
) -> None:
    made = _train(_bounded(_job(tmp_path, _pairs(), "dpo,orpo", *DPO), 61), engine)
    assert made.chain is not None
    assert (made.chain.kept, made.chain.stages["dpo"].steps) == ("dpo", 1)
    assert "one step takes 10 s" in made.chain.stages["orpo"].end
    with pytest.raises(Misuse, match="was left out") as error:
        _train(_bounded(_job(tmp_path / "other", _pairs(), "dpo", *DPO), 9), engine)
    assert error.value.hint == "`--budget-minutes 0.67` suffices"


def test_a_killed_stage_keeps_the_steps_that_were_decided(
    tmp_path: Path, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _bounded(_job(tmp_path, _pairs(), "dpo", *DPO, "save_every=2"), 60)
    monkeypatch.setattr(chains, "step_seconds", lambda _: [10.0, 10.0])

    def killed(progress: Any) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(job, engine, killed, _nothing)
    monkeypatch.setattr(chains, "step_seconds", lambda _: [1.0, 1.0])
    resumed = _train(job, engine)
    assert resumed.chain is not None
    assert resumed.chain.stages["dpo"].steps == 4


def test_one_step_is_measured_on_a_few(tmp_path: Path, engine: TransformersEngine) -> None:
    made = _train(_bounded(_job(tmp_path, _pairs(), "dpo", *DPO), 600), engine)
    assert made.chain is not None
    dpo = made.chain.stages["dpo"]
    assert (dpo.steps, dpo.steps_asked) == (9, None)
    assert 0 < dpo.seconds < 60
    assert not list(tmp_path.glob("training/*/steps-*"))
