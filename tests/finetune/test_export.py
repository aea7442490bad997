from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from engines.local import loading
from finetune.adapters.registry import Adapter, AdapterDraft, AdapterRegistry
from finetune.export.base import ExportOptions
from finetune.export.exporting import Exported, export_adapter
from finetune.export.modelfile import chat_of, write_modelfile
from finetune.export.registry import TARGETS

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

Make = Callable[..., Path]
Publish = Callable[..., Adapter]
PROMPTS = (
    "Question: Which part of a cell holds its genes?\nAnswer:",
    "12 + 7 =",
    "Rivers:\n\n- the Nile\n- (perhaps) the Rhine, isn't it?\n-",
    "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n",
)
F32 = ExportOptions(stored="f32", prompts=PROMPTS)


def base_digest(base: Path) -> str:
    model, _ = loading.load_model(str(base), device="cpu")
    return loading.model_digest(str(base), model)


@pytest.fixture(scope="session")
def publish_draft(tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """Publish what PEFT wrote for a base."""
    root = tmp_path_factory.mktemp("registry")

    def make(folder: Path, base: Path) -> Adapter:
        (folder / "README.md").unlink(missing_ok=True)
        draft = AdapterDraft("biology", folder, "lora", str(base), base_digest(base))
        return AdapterRegistry(root).publish(draft)

    return make


@pytest.fixture(scope="session")
def publish(
    random_adapter: Make, publish_draft: Publish, tmp_path_factory: pytest.TempPathFactory
) -> Publish:
    """Publish a random adapter for a base, with any of PEFT's settings."""

    def make(base: Path, **settings: Any) -> Adapter:
        folder = tmp_path_factory.mktemp("draft")
        random_adapter(folder, base, seed=1, **settings)
        return publish_draft(folder, base)

    return make


@pytest.fixture(scope="session")
def adapter(publish: Publish, base_folder: Path) -> Adapter:
    return publish(base_folder)


@pytest.fixture(scope="session")
def base_gguf(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The base as a user has it: f16, q8_0, and one that cannot be written anew."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

    from finetune.export.gguf_base import write_gguf

    folder = tmp_path_factory.mktemp("gguf")
    model, tokenizer = loading.load_model(str(base_folder), device="cpu")
    files = {stored: folder / f"{stored}.gguf" for stored in ("f32", "f16", "q8_0")}
    for stored, path in files.items():
        write_gguf(path, model, tokenizer, stored)
    files["q4_0"] = folder / "q4_0.gguf"
    writer = GGUFWriter(files["q4_0"], "qwen2")
    for tensor in GGUFReader(files["f32"]).tensors:
        kind = GGMLQuantizationType.Q4_0 if "attn_q.weight" in tensor.name else tensor.tensor_type
        writer.add_tensor(tensor.name, quants.quantize(tensor.data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return files


def drift(exported: Exported) -> float:
    assert exported.check is not None
    assert exported.check.ok
    assert exported.check.tokenised == 1
    return exported.check.max_abs_delta_logprob


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama", "Mistral"])
def test_every_architecture_is_written_exactly(
    kind: str, random_base: Make, publish: Publish, tmp_path: Path
) -> None:
    """In 32 bits nothing is lost, so a wrong row order or scale would be seen at once."""
    base = random_base(tmp_path / "base", kind)
    adapter = publish(base)
    for to in ("gguf-lora", "gguf"):
        exported = export_adapter(adapter, str(base), to, tmp_path / to, F32)
        assert drift(exported) < 1e-3
        assert exported.check.agreement == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 24, "gate_proj": 3}},
        {"target_modules": ["q_proj", "down_proj"], "r": 3, "lora_alpha": 5},
        {"alpha_pattern": {"layers.0.mlp.down_proj": 0}},
    ],
)
def test_every_plain_lora_has_its_own_scale(
    settings: dict[str, Any], base_folder: Path, publish: Publish, tmp_path: Path
) -> None:
    adapter = publish(base_folder, **settings)
    assert (
        drift(export_adapter(adapter, str(base_folder), "gguf-lora", tmp_path / "out", F32)) < 1e-3
    )


@pytest.mark.parametrize("stored", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("to", ["gguf-lora", "gguf", "ollama"])
def test_a_users_own_base_file_is_taken(
    to: str,
    stored: str,
    adapter: Adapter,
    base_folder: Path,
    base_gguf: dict[str, Path],
    tmp_path: Path,
) -> None:
    options = ExportOptions(base_gguf=base_gguf[stored], prompts=PROMPTS)
    exported = export_adapter(adapter, str(base_folder), to, tmp_path / "out", options)
    assert drift(exported) < {"f32": 1e-3, "f16": 0.02, "q8_0": 0.5}[stored]
    if to != "gguf-lora":
        size = (tmp_path / "out" / "model.gguf").stat().st_size
        assert size == pytest.approx(base_gguf[stored].stat().st_size, rel=0.01)


def test_a_merged_model_is_a_model(adapter: Adapter, base_folder: Path, tmp_path: Path) -> None:
    exported = export_adapter(adapter, str(base_folder), "merged", tmp_path / "out", F32)
    assert drift(exported) < 1e-3
    model, tokenizer = loading.load_model(str(tmp_path / "out"), device="cpu")
    assert model.config.model_type == "qwen2"
    assert tokenizer.chat_template is not None
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_merged_model_keeps_the_type_of_its_base(
    dtype: str, random_base: Make, publish: Publish, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    base = random_base(tmp_path / "base", initializer_range=0.05)
    model, _ = loading.load_model(str(base), device="cpu")
    model.to(getattr(torch, dtype)).save_pretrained(base)
    drift(export_adapter(publish(base), str(base), "merged", tmp_path / "out", F32))
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {f"torch.{dtype}"}


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"modules_to_save": ["norm"]},
        {"init_lora_weights": "pissa"},
        {"bias": "lora_only", "target_modules": ["q_proj"]},
    ],
    ids=["dora", "modules_to_save", "pissa", "bias"],
)
def test_what_is_more_than_lora_is_merged(
    settings: dict[str, Any], base_folder: Path, publish: Publish, tmp_path: Path
) -> None:
    adapter = publish(base_folder, **settings)
    with pytest.raises(Misuse, match="cannot hold as a LoRA") as caught:
        export_adapter(adapter, str(base_folder), "gguf-lora", tmp_path / "lora", F32)
    assert "--to merged" in str(caught.value.hint)
    for to in ("merged", "gguf"):
        assert drift(export_adapter(adapter, str(base_folder), to, tmp_path / to, F32)) < 1e-3


def test_trained_prompts_are_refused(base_folder: Path, tmp_path: Path, adapter: Adapter) -> None:
    import peft

    model, _ = loading.load_model(str(base_folder), device="cpu")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "draft")
    (tmp_path / "draft" / "README.md").unlink(missing_ok=True)
    digest = adapter.card.base_digest
    draft = AdapterDraft("biology", tmp_path / "draft", "prompt", str(base_folder), digest)
    prompts = AdapterRegistry(tmp_path / "registry").publish(draft)
    for to in TARGETS:
        with pytest.raises(Misuse, match=r"is trained prompts|of kind `PROMPT_TUNING`"):
            export_adapter(prompts, str(base_folder), to, tmp_path / "out", F32)
        assert not (tmp_path / "out").exists()


def test_other_adapters_are_merged(
    base_folder: Path, publish_draft: Publish, tmp_path: Path
) -> None:
    import peft
    import torch

    model, _ = loading.load_model(str(base_folder), device="cpu")
    wrapped = peft.get_peft_model(model, peft.IA3Config(task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "ia3_l" in name:
                weight.normal_(1, 0.3)
    wrapped.save_pretrained(tmp_path / "draft")
    adapter = publish_draft(tmp_path / "draft", base_folder)
    for to in ("merged", "gguf"):
        assert drift(export_adapter(adapter, str(base_folder), to, tmp_path / to, F32)) < 1e-3
    with pytest.raises(Misuse, match="of kind `IA3`"):
        export_adapter(adapter, str(base_folder), "gguf-lora", tmp_path / "lora", F32)


@pytest.mark.parametrize("to", ["gguf", "merged"])
def test_an_adapted_output_layer_that_is_the_embedding_too_is_not_exported_wrong(
    to: str, base_folder: Path, publish: Publish, tmp_path: Path
) -> None:
    """Merged into the one weight, it would change what goes in as well as what comes out."""
    adapter = publish(base_folder, target_modules=["q_proj", "lm_head"])
    with pytest.raises(BenchError):
        export_adapter(adapter, str(base_folder), to, tmp_path / "out", F32)
    assert not (tmp_path / "out").exists()


def test_a_weak_adapter_is_said_to_prove_nothing(
    base_folder: Path, publish: Publish, tmp_path: Path
) -> None:
    adapter = publish(base_folder, lora_alpha=1e-4)
    exported = export_adapter(adapter, str(base_folder), "merged", tmp_path / "out", F32)
    assert any("would not see it missing" in note for note in exported.notes)


def test_what_is_no_number_is_a_drift() -> None:
    from finetune.export.verify import VerifiedPrompt, compare_logprobs, tolerance_of

    asked = [VerifiedPrompt("a", (1,), {2: -0.1, 3: -3.0})]
    for said in ({2: math.nan, 3: -3.0}, {2: -0.1, 3: math.nan}, {2: -math.inf, 3: -3.0}):
        check = compare_logprobs(asked, lambda _, said=said: said, lambda each: each.tokens, 10.0)
        assert not check.ok
        with pytest.raises(BenchError, match="is not the base model"):
            tolerance_of(check, "it")


def test_a_base_file_in_parts_is_refused(
    adapter: Adapter, base_folder: Path, base_gguf: dict[str, Path], tmp_path: Path
) -> None:
    from gguf import GGUFReader, GGUFWriter

    writer = GGUFWriter(tmp_path / "part.gguf", "qwen2")
    writer.add_uint16("split.count", 2)
    for tensor in GGUFReader(base_gguf["f32"]).tensors[:2]:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    options = ExportOptions(base_gguf=tmp_path / "part.gguf", prompts=PROMPTS)
    with pytest.raises(Misuse, match="one of 2 parts"):
        export_adapter(adapter, str(base_folder), "gguf", tmp_path / "out", options)


@pytest.mark.parametrize("to", ["gguf", "gguf-lora"])
def test_layers_that_llama_cpp_does_not_adapt_are_refused(
    to: str, random_base: Make, publish: Publish, tmp_path: Path
) -> None:
    base = random_base(tmp_path / "base", "Llama")
    adapter = publish(base, target_modules=["q_proj", "lm_head"])
    options = ExportOptions(base_gguf=tmp_path / "none.gguf", prompts=PROMPTS)
    with pytest.raises((Misuse, Malformed)):
        export_adapter(adapter, str(base), to, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("q4_0", "as Q4_0, which cannot be written anew"),
        ("foreign", "is not the base model"),
        ("llama", "architecture `llama`"),
        ("wide", "not the base model"),
        ("torn", "not a GGUF file"),
        ("text", "not a GGUF file"),
        ("missing", "not a GGUF file"),
    ],
)
def test_a_base_file_that_cannot_be_used_is_refused(
    content: str,
    said: str,
    adapter: Adapter,
    base_folder: Path,
    base_gguf: dict[str, Path],
    random_base: Make,
    tmp_path: Path,
) -> None:
    from finetune.export.gguf_base import write_gguf

    path = tmp_path / "base.gguf"
    others: dict[str, dict[str, Any]] = {
        "foreign": {"seed": 9},
        "wide": {"hidden_size": 96},
        "llama": {"kind": "Llama"},
    }
    if content in others:
        write_gguf(
            path, *loading.load_model(str(random_base(tmp_path / "b", **others[content]))), "f16"
        )
    elif content == "torn":
        path.write_bytes(base_gguf["f16"].read_bytes()[:90_000])
    elif content == "text":
        path.write_text("not at all", encoding="utf-8")
    elif content == "q4_0":
        path = base_gguf["q4_0"]
    options = ExportOptions(base_gguf=path, prompts=PROMPTS)
    with pytest.raises(BenchError, match=said):
        export_adapter(adapter, str(base_folder), "gguf", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["gguf-lora", "gguf", "merged"])
def test_a_drift_is_found_and_nothing_is_left(
    to: str,
    adapter: Adapter,
    base_folder: Path,
    base_gguf: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The writers get an adapter of half the scale; the evaluated one has it whole."""
    import dataclasses

    from engines.gguf import lora_weights as lora
    from finetune.export import base
    from finetune.export import targets as kinds

    halved = [
        dataclasses.replace(each, scale=each.scale / 2) for each in lora.read_deltas(adapter.folder)
    ]
    monkeypatch.setattr(kinds, "read_deltas", lambda _: halved)
    merge = base.ExportJob.merge

    def spoiled(job: base.ExportJob) -> Any:
        model = merge(job)
        model.model.layers[1].mlp.down_proj.weight.data[:20] *= 1.3
        return model

    monkeypatch.setattr(base.ExportJob, "merge", spoiled)
    options = ExportOptions(base_gguf=base_gguf["q8_0"], prompts=PROMPTS)
    with pytest.raises(BenchError, match="does not answer as the evaluated model") as caught:
        export_adapter(adapter, str(base_folder), to, tmp_path / "out", options)
    assert "nothing was published" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(
    adapter: Adapter, base_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine", encoding="utf-8")
    for to in TARGETS:
        with pytest.raises(BenchError, match="exists already"):
            export_adapter(adapter, str(base_folder), to, tmp_path / "out", F32)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_kind_or_a_base_that_is_none_is_refused(
    adapter: Adapter, base_folder: Path, random_base: Make, tmp_path: Path
) -> None:
    with pytest.raises(NoSuch, match="no kind of export `gguf_lora`"):
        export_adapter(adapter, str(base_folder), "gguf_lora", tmp_path / "out", F32)
    options = ExportOptions(stored="q4_k_m", prompts=PROMPTS)
    with pytest.raises(NoSuch, match="no way of storing weights `q4_k_m`"):
        export_adapter(adapter, str(base_folder), "gguf", tmp_path / "out", options)
    other = random_base(tmp_path / "other", seed=5)
    with pytest.raises(Misuse, match="was trained on"):
        export_adapter(adapter, str(other), "merged", tmp_path / "out", F32)
    with pytest.raises(Misuse, match="another process holds"):
        export_adapter(adapter, "http://127.0.0.1:9/v1#it", "merged", tmp_path / "out", F32)
    with pytest.raises(BenchError, match="at least one is empty or missing"):
        export_adapter(
            adapter, str(base_folder), "merged", tmp_path / "out", ExportOptions(prompts=())
        )
    assert not (tmp_path / "out").exists()


def test_the_export_says_what_it_is(adapter: Adapter, base_folder: Path, tmp_path: Path) -> None:
    from domainlift.files import sha256

    exported = export_adapter(adapter, str(base_folder), "gguf-lora", tmp_path / "out", F32)
    said = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert said["kind"] == "gguf-lora"
    assert said["adapter_digest"] == adapter.digest
    assert said["files"] == {"adapter.gguf": sha256(tmp_path / "out" / "adapter.gguf")}
    assert said["check"]["max_abs_delta_logprob"] == drift(exported)
    assert str(tmp_path / "out") in exported.commands[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_ollama_gets_merged_weights_with_template_and_stops(
    adapter: Adapter, base_folder: Path, tmp_path: Path
) -> None:
    options = ExportOptions(stored="f32", prompts=PROMPTS, name="lifted")
    exported = export_adapter(adapter, str(base_folder), "ollama", tmp_path / "out", options)
    text = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    assert text.startswith("FROM ./model.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert drift(exported) < 1e-3
    create, run = exported.commands
    assert create == f"ollama create lifted -f {tmp_path / 'out' / 'Modelfile'}"
    assert run == "ollama run lifted"


QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] "
    "+ '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}{%- if not (loop.first and message.role == 'system') %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def test_the_template_is_told_by_what_the_model_writes(base_folder: Path) -> None:
    _, tokenizer = loading.load_model(str(base_folder), device="cpu")
    assert chat_of(tokenizer).system == ""
    tokenizer.chat_template = QWEN
    chat = chat_of(tokenizer)
    assert chat.system == "You help."
    text = write_modelfile(chat, "./model.gguf", "<|endoftext|>")
    assert 'SYSTEM """You help."""' in text
    assert text.count("PARAMETER stop") == 3
    tokenizer.chat_template = None
    plain = write_modelfile(chat_of(tokenizer), "./model.gguf", None)
    assert plain == 'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}"""\n'
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(Misuse, match="of no family"):
        chat_of(tokenizer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["model"].update(type="Unigram", vocab=[], merges=[]), "byte-level BPE"),
        (lambda raw: raw["pre_tokenizer"]["pretokenizers"][0].clear(), "no name for how"),
    ],
)
def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(
    change: Callable[[Any], None], said: str, base_folder: Path
) -> None:
    from types import SimpleNamespace

    from gguf import GGUFWriter

    from finetune.export.gguf_tokenizer import add_tokenizer

    _, tokenizer = loading.load_model(str(base_folder), device="cpu")
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    change(raw)
    other = SimpleNamespace(backend_tokenizer=SimpleNamespace(to_str=lambda: json.dumps(raw)))
    with pytest.raises(Misuse, match=said) as caught:
        add_tokenizer(GGUFWriter(None, "qwen2"), other, 2048)
    assert "--base-gguf" in str(caught.value.hint)


def test_positions_that_cannot_be_written_are_refused(
    random_base: Make, publish: Publish, tmp_path: Path
) -> None:
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    base = random_base(tmp_path / "base", rope_parameters=rope)
    with pytest.raises(Misuse, match="positions of type `linear`"):
        export_adapter(publish(base), str(base), "gguf", tmp_path / "out", F32)


def test_the_embedded_model_can_leave(publish: Publish, tmp_path: Path) -> None:
    from engines.registry import tiny_folder

    base = tmp_path / "tiny"
    shutil.copytree(tiny_folder(), base)
    adapter = publish(base)
    for to in ("gguf", "gguf-lora", "ollama"):
        assert (
            drift(
                export_adapter(adapter, str(base), to, tmp_path / to, ExportOptions(stored="f32"))
            )
            < 1e-3
        )


@pytest.mark.skipif("BENCH_DATA" not in os.environ, reason="needs Qwen2.5's tokenizer")
def test_qwens_own_tokenizer_cuts_alike(random_base: Make, tmp_path: Path) -> None:
    from engines.gguf.model import GgufModel
    from finetune.export.gguf_base import write_gguf
    from perf.shapes import mirror, tokenizer

    base = random_base(tmp_path / "base", vocab_size=151_936, num_hidden_layers=1)
    model, _ = loading.load_model(str(base), device="cpu")
    qwen = tokenizer()
    write_gguf(tmp_path / "model.gguf", model, qwen, "q8_0")
    rows = (mirror() / "mmlu" / "test").glob("*_test.csv")
    texts = [text for path in sorted(rows) for text in path.read_text("utf-8").split("\n")[:6]]
    odd = [
        "  two  spaces\t\ttabs",
        "a\n\n\n b",
        "don't WON'T I'll",
        "12345 1,000.5",
        "日本語 é ß 😀",
    ]
    with GgufModel(tmp_path / "model.gguf") as served:
        differing = [
            text
            for text in [*texts, *odd, "<|im_start|>user\nHi<|im_end|>\n"]
            if text and list(served.tokenize(text, special=False)) != qwen(text)["input_ids"]
        ]
    assert len(texts) > 300
    assert differing == []
