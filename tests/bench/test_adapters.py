from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from engines.registry import tiny_folder

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra local")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the embedded model with weights that change every answer."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("lora")
    model = AutoModelForCausalLM.from_pretrained(tiny_folder())
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear"))
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    wrapped.save_pretrained(folder)
    return folder


def publish(weights: Path, tmp_path: Path, domain: str, digest: str | None = None) -> None:
    from engines.local import loading
    from finetune.adapters.registry import AdapterDraft, AdapterRegistry

    found = digest if digest is not None else loading.model_digest(str(tiny_folder()), _Plain())
    draft = AdapterDraft(
        domain=domain, folder=weights, method="lora", base="tiny", base_digest=found
    )
    AdapterRegistry(tmp_path / "workspace" / "adapters").publish(draft)


class _Plain:
    """A model that came from a folder, as far as its digest is concerned."""

    class config:
        _commit_hash = None


RUN = ("run", "--model", "tiny", "--suite", "demo", "--limit", "20")


def test_an_adapter_answers_and_is_compared_with_the_base(
    bench: Any, weights: Path, tmp_path: Path
) -> None:
    publish(weights, tmp_path, "biology")
    said = bench(*RUN, "--adapter", "biology", "--json")
    assert said.code == 0, said.err
    assert list(said.json["treatments"]) == ["base", "lora"]
    assert said.json["base"]["run"] != said.json["run"]
    assert said.json["paired"][""]["n"] == 20
    assert said.json["paired"]["mathematics"]["losses"] > 0
    own = bench(*RUN, "--adapter", "own", "--json")
    assert own.json["paired"]["mathematics"]["losses"] == 0
    shown = bench(*RUN, "--adapter", "own")
    assert "lora" in shown.out.splitlines()[1]


def test_a_damaged_adapter_is_named_and_hides_no_other(
    bench: Any, weights: Path, tmp_path: Path
) -> None:
    publish(weights, tmp_path, "biology")
    damaged = tmp_path / "workspace" / "adapters" / "history" / "v0001"
    damaged.mkdir(parents=True)
    (damaged / "card.json").write_text("{}")
    listed = bench("adapters", "list", "--json")
    assert (listed.code, [row["name"] for row in listed.json]) == (0, ["biology/v0001"])
    assert "`bench adapters rm history/v0001" in listed.err


def test_adapters_are_listed_shown_and_removed(bench: Any, weights: Path, tmp_path: Path) -> None:
    publish(weights, tmp_path, "biology")
    publish(weights, tmp_path, "biology")
    names = [row["name"] for row in bench("adapters", "list", "--json").json]
    assert names == ["biology/v0001", "biology/v0002"]
    assert "biology/v0002" in bench("adapters", "list").out
    assert bench("adapters", "show", "biology", "--json").json["name"] == "biology/v0002"
    assert "tiny" in bench("adapters", "show", "biology").out
    assert bench("adapters", "rm", "biology/v0001").code == 0
    assert [row["name"] for row in bench("adapters", "list", "--json").json] == ["biology/v0002"]


@pytest.mark.parametrize(
    ("fault", "what"),
    [("none", "no adapter"), ("base", "was trained on"), ("tampered", "adapter_model.safetensors")],
)
def test_what_must_not_answer_is_refused(
    bench: Any, weights: Path, tmp_path: Path, fault: str, what: str
) -> None:
    if fault != "none":
        publish(weights, tmp_path, "biology", "sha256:another" if fault == "base" else None)
    if fault == "tampered":
        path = tmp_path / "workspace" / "adapters" / "biology" / "v0001"
        path = path / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    said = bench(*RUN, "--adapter", "biology")
    assert said.code == 2
    assert what in said.err


def test_an_engine_that_cannot_load_adapters_says_so(bench: Any, server: Any, exam: Any) -> None:
    argv = ("run", "--model", server.model, "--task", exam(2), "--scoring", "letter")
    assert bench(*argv, "--adapter", "served-adapter").code == 0
    refused = bench(*argv, "--adapter", "a,b")
    assert refused.code == 2
    assert "one adapter" in refused.err
