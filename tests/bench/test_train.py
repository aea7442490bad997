from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from engines.registry import tiny_folder
from finetune.data.recipe import Recipe
from finetune.find_adapter import find_existing
from finetune.jobs import TrainingJob
from finetune.training.settings import TrainingArguments
from tests.helpers.chat_templates import R1
from tests.helpers.tolerance import assert_same_weights, loss_tolerance

pytest.importorskip("peft")

SLOW = pytest.mark.slow
WEIGHTS = "adapter_model.safetensors"
FEW = ("--set", "steps=6", "--set", "eval_every=3", "--set", "save_every=2", "--set", "batch=4")
TRAINED = {
    "adapter",
    "version",
    "steps",
    "tokens_per_second",
    "peak_bytes",
    "seconds",
    "validation",
}


def same_final_loss(result: dict[str, Any]) -> Any:
    """Equal but for rounding."""
    loss = result["final_loss"]
    return pytest.approx(loss, rel=0, abs=loss_tolerance([loss], result["steps"]))


@pytest.fixture
def prepared(bench: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = tmp_path_factory.getbasetemp() / "prepared"
    if not made.exists():
        said = bench("data", "prepare", "biology", "--own", "--workspace", made)
        assert said.code == 0, said.err
    shutil.copytree(made, tmp_path / "workspace")
    return bench


def test_a_domain_is_learned_published_and_scored(prepared: Any, tmp_path: Path) -> None:
    said = prepared("train", "biology", "--model", "tiny", *FEW, "--json")
    assert said.code == 0, said.err
    found = said.json
    assert set(found) >= TRAINED
    assert (found["adapter"], found["version"], found["steps"]) == ("biology", "v0001", 6)
    assert set(found["validation"]) == {"biology", "mathematics", "philosophy"}
    biology = found["validation"]["biology"]
    assert biology["n"] == 83
    low, high = biology["interval"]
    assert low < biology["adapter"] - biology["base"] < high
    card = prepared("adapters", "show", "biology", "--json").json
    assert card["base"] == "tiny"
    assert card["recipe"]["training"]["steps"] == 6
    assert card["data"]["biology"]["rows"]["train"] == 224
    config = (Path(found["path"]) / "adapter_config.json").read_text()
    assert str(tmp_path) not in config
    left = [path.name for path in (tmp_path / "workspace" / "training").glob("*/*")]
    assert not [name for name in left if name.startswith(("checkpoint", "best", "adapter"))]
    run = prepared(
        "run", "--model", "tiny", "--suite", "demo", "--limit", "20", "--adapter", "own", "--json"
    )
    assert run.code == 0, run.err


def test_a_training_that_only_did_harm_is_not_published(prepared: Any, tmp_path: Path) -> None:
    said = prepared("train", "biology", "--model", "tiny", *FEW, "--set", "learning_rate=0.05")
    assert said.code == 1
    assert "error: the training lowered `" in said.err
    assert "at every step that was validated; nothing is published" in said.err
    assert "`learning_rate` lower" in said.err
    assert prepared("adapters", "list", "--json").json == []
    assert list((tmp_path / "workspace" / "training").glob("*/adapter/curves.json"))


def test_what_was_made_before_is_known_by_what_decided_it(prepared: Any, tmp_path: Path) -> None:
    few = ("--set", "steps=1", "--set", "eval_every=0")
    said = prepared("train", "biology", "--model", "tiny", *few, "--json")
    digest = prepared("adapters", "show", "biology", "--json").json["base_digest"]
    settings = TrainingArguments(steps=1, eval_every=0)
    wish = TrainingJob(
        "biology", Recipe({"biology": 1.0}), settings, tmp_path / "workspace", own=True
    )
    for changes, same in (
        ({}, True),
        ({"micro_batch": 64, "checkpointing": True}, True),
        ({"rank": 2}, False),
    ):
        other = replace(wish, settings=replace(settings, **changes))
        found = find_existing(other, "tiny", digest)
        assert (found is not None) is same, changes
    # Of a GGUF file the card also says that its dequantised weights were trained.
    card = tmp_path / "workspace" / "adapters" / "biology" / "v0001" / "card.json"
    told = json.loads(card.read_text(encoding="utf-8"))
    told["recipe"]["weights"] = "dequantised from a GGUF file"
    card.write_text(json.dumps(told), encoding="utf-8")
    assert find_existing(wish, "tiny", digest) is not None
    assert said.json["version"] == "v0001"


def test_what_was_trained_once_is_another_version_the_second_time(prepared: Any) -> None:
    one = prepared("train", "biology", "--model", "tiny", *FEW, "--json").json
    two = prepared("train", "biology", "--model", "tiny", *FEW, "--json").json
    assert (one["version"], two["version"]) == ("v0001", "v0002")
    assert one["final_loss"] == same_final_loss(two)
    assert one["validation"] == two["validation"]


@SLOW
@pytest.mark.parametrize("launcher", ["two_processes", "torchrun"])
def test_processes_that_share_the_model_out_train_one_domain_after_another(
    prepared: Any, tmp_path: Path, request: pytest.FixtureRequest, launcher: str
) -> None:
    assert prepared("data", "prepare", "history", "--own").code == 0
    few = ("--model", "tiny", *FEW, "--set", "eval_every=6", "--json")
    alone = prepared("train", "biology", *few).json
    # What accelerate sets, the part included that would have transformers load nothing in one.
    said = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    argv = ("train", "biology", "history", *few, "--workspace", tmp_path / "workspace")
    done = request.getfixturevalue(launcher)("-m", "bench", *argv, **said)
    assert done.returncode == 0, done.stderr[-3000:]
    biology, history = (json.loads(line) for line in done.stdout.splitlines())
    assert (biology["version"], history["version"]) == ("v0002", "v0001")
    assert biology["final_loss"] == same_final_loss(alone)
    assert biology["validation"] == alone["validation"]


def test_a_rehearsal_shows_what_is_trained_on_and_what_it_takes(
    prepared: Any, tmp_path: Path
) -> None:
    said = prepared("train", "biology", "--model", "tiny", "--dry-run", "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["rows"] == sum(found["new"].values()) + sum(found["replay"].values())
    assert found["new"] == {"biology": 224}
    assert found["examples"][0]["read"].endswith("Answer:")
    assert found["examples"][0]["trained"].startswith(" ")
    assert 0 < found["trainable"] < found["parameters"]
    assert found["tokens"] > found["trained_tokens"] > 0
    assert found["predicted_peak_bytes"] > 4 * found["parameters"]
    assert found["predicted_seconds"] > 0
    thinks = tmp_path / "thinks"
    shutil.copytree(tiny_folder(), thinks)
    (thinks / "chat_template.jinja").write_text(R1, encoding="utf-8")
    shown = prepared("train", "biology", "--own", "--model", str(thinks), "--dry-run")
    assert "the chat template begins every reply with a thought (`<think>`)" in shown.out
    assert "⟦" in shown.out
    assert "parameters are trained" in shown.out
    assert prepared("adapters", "list", "--json").json == []


def test_a_rehearsal_learns_after_no_end_that_the_tokenizer_appends(
    prepared: Any, tmp_path: Path
) -> None:
    appends = tmp_path / "appends"
    shutil.copytree(tiny_folder(), appends)
    path = appends / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    end, none = ["<|endoftext|>", 0], ["<|im_start|>", 1]
    tokenizer["post_processor"] = {"type": "BertProcessing", "sep": end, "cls": none}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    said = prepared("train", "biology", "--own", "--model", str(appends), "--dry-run", "--json")
    assert all(each["read"].endswith("Answer:") for each in said.json["examples"])
    shown = prepared("train", "biology", "--own", "--model", str(appends), "--dry-run")
    assert "the tokenizer appends `<|endoftext|>`" in shown.out


@pytest.mark.parametrize("argv", [("--dry-run",), ("--set", "steps=2")])
def test_a_strength_alone_without_rows_is_told_what_is_missing(
    bench: Any, argv: tuple[str, ...]
) -> None:
    said = bench("train", "mathematics", "--model", "tiny", *argv)
    assert said.code in (1, 2)
    assert "data/mathematics` is no prepared data set" in said.err
    assert "`bench data prepare mathematics` writes one" in said.err


def test_a_small_budget_leaves_out_rows_and_says_so(prepared: Any, tmp_path: Path) -> None:
    argv = ("train", "biology", "--model", "tiny", "--budget-minutes", "0.012")
    told = prepared(*argv, "--dry-run", "--json").json
    assert (told["rows_available"], told["budget_seconds"]) == (224, pytest.approx(0.72))
    assert 16 <= told["rows_chosen"] == told["new"]["biology"] < 224
    assert "validation questions" in told["chosen_by"]
    assert 0 < told["predicted_seconds"] < 2
    said = prepared(*argv, "--set", "eval_every=100", "--json")
    assert said.code == 0, said.err
    made = said.json
    assert 16 <= made["rows_chosen"] < 224
    assert "questions that the model gets wrong" in made["chosen_by"]
    card = prepared("adapters", "show", "biology", "--json").json
    assert card["budget"]["rows_chosen"] == made["rows_chosen"]
    settings = TrainingArguments(eval_every=100)
    job = TrainingJob(
        "biology", Recipe({"biology": 1.0}), settings, tmp_path / "workspace", own=True
    )
    for minutes, same in ((0.012, True), (None, False)):
        asked = replace(job, budget=settings.budget(minutes, None))
        found = find_existing(asked, "tiny", card["base_digest"])
        assert (found is not None) is same


def test_rows_of_ones_own_need_neither_a_domain_nor_questions(bench: Any, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is kept in drawer {n}?", "completion": f"The key of room {n * 7}."}
        for n in range(200)
    ]
    file = tmp_path / "drawers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert bench("data", "prepare", "drawers", "--file", file).code == 0
    said = bench("train", "drawers", "--model", "tiny", *FEW, "--json")
    assert said.code == 0, said.err
    score = said.json["validation"]["drawers"]
    assert score["measure"] == "probability per token"
    assert 0 < score["base"] < score["adapter"] < 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def wait_for_checkpoint(folder: Path) -> None:
    """Wait until a training in this folder's workspace has saved its fourth step."""
    for _ in range(1200):
        if list((folder / "workspace" / "training").glob("*/checkpoint-*4*")):
            return
        time.sleep(0.05)


def test_a_killed_training_goes_on(prepared: Any, forked: Any, tmp_path: Path) -> None:
    settings = ("--set", "steps=12", "--set", "save_every=2", "--set", "eval_every=0")
    argv = ("train", "biology", "--model", "tiny", *settings, "--json")
    whole = prepared(*argv).json
    running = forked(*argv)
    wait_for_checkpoint(tmp_path)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    again = prepared(*argv).json
    assert again["version"] == "v0002"
    assert again["steps"] == 12
    assert again["final_loss"] == same_final_loss(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at SIGTERM")
def test_sigterm_stops_a_training_that_goes_on_to_the_same_weights(
    prepared: Any, forked: Any, tmp_path: Path
) -> None:
    rate = 1e-3
    settings = ("--set", "steps=12", "--set", "save_every=2", "--set", "eval_every=0")
    argv = ("train", "biology", "--model", "tiny", *settings, "--set", f"learning_rate={rate}")
    whole = prepared(*argv, "--json").json
    running = forked(*argv)
    wait_for_checkpoint(tmp_path)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate()
    assert running.returncode == 143, err
    assert "error: stopped after step" in err
    assert "it goes on from the last checkpoint" in err
    again = prepared(*argv, "--json").json
    assert (again["version"], again["steps"]) == ("v0002", 12)
    weights = (load_file(Path(each["path"]) / WEIGHTS) for each in (again, whole))
    assert_same_weights(*weights, steps=12, learning_rate=rate)


def test_two_trainings_of_one_adapter_do_not_meet(prepared: Any, tmp_path: Path) -> None:
    from finetune.adapters.registry import AdapterRegistry

    with AdapterRegistry(tmp_path / "workspace" / "adapters").writing("biology"):
        said = prepared("train", "biology", "--model", "tiny", *FEW)
    assert said.code == 1
    assert "being written" in said.err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("train", "history", "--model", "tiny"), "no prepared data set"),
        (("train", "biology", "--model", "tiny", "--set", "rnk=8"), "did you mean `rank`?"),
        (("train", "biology", "--model", "tiny", "--set", "rank"), "KEY=VALUE"),
        (("train", "biology", "--model", "tiny", "--set", "method=magic"), "magic"),
        (("train", "biology", "--model", "http://127.0.0.1:9/v1#m"), "another process"),
        (("train", "biology", "history", "--model", "tiny", "--data-set", "x"), "one adapter"),
        (("train", "../biology", "--model", "tiny"), "biology"),
    ],
)
def test_a_wrong_command_is_one_line(prepared: Any, argv: tuple[str, ...], told: str) -> None:
    said = prepared(*argv)
    assert said.code == 2, said.err
    assert told in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("proportions: {biology: 0.5}\n", "sum to 0.5"),
        ("proportions: {biology: 1.0}\nturns: 3\n", "turns"),
        ("proportions: {biology: 1.0}\ntraining: {rank: high}\n", "whole number"),
    ],
)
def test_a_wrong_recipe_is_one_line(prepared: Any, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    said = prepared("train", "biology", "--model", "tiny", "--recipe", path)
    assert said.code == 2, said.err
    assert told in said.err


def test_a_recipe_mixes_domains_into_one_adapter(prepared: Any, tmp_path: Path) -> None:
    assert prepared("data", "prepare", "history", "--own").code == 0
    path = tmp_path / "both.yaml"
    path.write_text(
        "proportions: {biology: 0.5, history: 0.5}\nreplay: 0.5\norder: easy-to-hard\n"
        "training: {steps: 4, batch: 4, eval_every: 4, shuffle: false}\n",
        encoding="utf-8",
    )
    said = prepared("train", "both", "--model", "tiny", "--recipe", path, "--json")
    assert said.code == 0, said.err
    assert said.json["adapter"] == "both"
    assert {"biology", "history"} <= set(said.json["validation"])
