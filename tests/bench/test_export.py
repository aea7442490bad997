from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.registry import tiny_folder

pytest.importorskip("peft")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

KEYS = {
    *("path", "kind", "max_abs_delta_logprob", "agreement", "prompts", "tolerance"),
    *("commands", "notes"),
}


class _Plain:
    """A model that came from a folder, as far as its digest is concerned."""

    class config:
        _commit_hash = None


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the embedded model that changes what it says."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("lora")
    model = AutoModelForCausalLM.from_pretrained(tiny_folder())
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear"))
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check asks what is at hand, which a mirror would change."""
    monkeypatch.delenv("BENCH_DATA", raising=False)


@pytest.fixture
def adapter(lora: Path, tmp_path: Path) -> str:
    """It, as the newest adapter of biology."""
    from engines.local import loading
    from finetune.adapters.registry import AdapterDraft, AdapterRegistry

    digest = loading.model_digest(str(tiny_folder()), _Plain())  # type: ignore[arg-type]
    draft = AdapterDraft(
        domain="biology", folder=lora, method="lora", base="tiny", base_digest=digest
    )
    return AdapterRegistry(tmp_path / "workspace" / "adapters").publish(draft).name


@pytest.mark.parametrize(
    ("to", "argv", "files", "most"),
    [
        ("merged", (), {"config.json", "model.safetensors", "tokenizer.json"}, 1e-3),
        ("gguf-lora", (), {"adapter.gguf"}, 0.05),
        ("gguf", ("--stored", "f32"), {"model.gguf"}, 1e-3),
        ("gguf", ("--stored", "q8_0"), {"model.gguf"}, 0.5),
        ("ollama", ("--name", "lifted"), {"model.gguf", "Modelfile"}, 0.05),
    ],
)
def test_every_kind_is_written_and_checked(
    bench: Any,
    adapter: str,
    tmp_path: Path,
    to: str,
    argv: tuple[str, ...],
    files: set[str],
    most: float,
) -> None:
    said = bench("export", "biology", "--to", to, *argv, "--json")
    assert said.code == 0, said.err
    assert said.json.keys() == KEYS
    folder = tmp_path / "workspace" / "exports" / f"biology-v0001-{to}"
    assert said.json["path"] == str(folder)
    assert said.json["kind"] == to
    assert files <= {path.name for path in folder.iterdir()}
    assert said.json["max_abs_delta_logprob"] < most <= 10 * said.json["tolerance"] + 1e-3
    assert said.json["agreement"] > 0.75
    assert said.json["prompts"] == 16
    assert str(folder) in said.json["commands"][0]
    assert not any("would not see it missing" in note for note in said.json["notes"])


def test_people_are_told_where_it_is_and_how_to_go_on(
    bench: Any, adapter: str, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    said = bench("export", adapter, "--to", "merged", "--out", out)
    assert said.code == 0, said.err
    first, figures, following = said.out.splitlines()
    assert first == f"biology/v0001 (merged): {out}"
    assert "same answer to 100% of 16 prompts" in figures
    assert following == f"next: bench run --model {out}"
    run = ("run", "--model", out, "--suite", "demo", "--limit", "5", "--json")
    assert bench(*run).code == 0


def test_a_base_file_of_ones_own(bench: Any, adapter: str, tmp_path: Path) -> None:
    made = bench("export", "biology", "--to", "gguf", "--stored", "q8_0", "--json").json
    file = Path(made["path"]) / "model.gguf"
    said = bench("export", "biology", "--to", "gguf-lora", "--base-gguf", file)
    # It holds the adapter already, so it is not the base model.
    assert said.code == 1
    assert "`model.gguf` is not the base model" in said.err
    assert not (tmp_path / "workspace" / "exports" / "biology-v0001-gguf-lora").exists()


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        ((), 2, "--to"),
        (("--to", "gguf_lora"), 2, "did you mean `gguf-lora`?"),
        (("--to", "gguf", "--stored", "q4_k_m"), 2, "no way of storing weights `q4_k_m`"),
        (("--to", "merged", "--stored", "f16"), 2, "`--stored` has no meaning here"),
        (("--to", "gguf", "--name", "x"), 2, "it goes with `--to ollama`"),
        (("--to", "ollama", "--name", "a b"), 2, "cannot name a model in Ollama"),
        (("--to", "gguf", "--base-gguf", "none.gguf"), 2, "does not exist"),
        (("--to", "merged", "--base", "http://127.0.0.1:9/v1#it"), 2, "another process holds"),
        (("--to", "merged", "--out", "."), 1, "exists already"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    bench: Any, adapter: str, argv: tuple[str, ...], code: int, what: str
) -> None:
    said = bench("export", "biology", *argv)
    assert said.code == code, said.err
    assert what in said.err
    assert "\nhint: " in said.err
    assert said.out == ""


def test_an_adapter_that_is_none_is_refused(bench: Any, adapter: str) -> None:
    said = bench("export", "biology/v0009", "--to", "merged")
    assert said.code == 2
    assert "no adapter `biology/v0009`" in said.err


def test_another_base_is_refused_with_the_right_one(
    bench: Any, adapter: str, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(tiny_folder(), tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    said = bench("export", "biology", "--to", "merged", "--base", tmp_path / "other")
    assert said.code == 2
    assert "was trained on `tiny`" in said.err
    assert "`--base tiny`" in said.err
