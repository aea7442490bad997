"""The targets of an export, one function each: write into a folder, and check what was written."""

from __future__ import annotations

import shlex
from pathlib import Path

from domainlift.errors import Misuse
from domainlift.files import write_text
from domainlift.hints import copyable
from domainlift.optional import need
from engines.gguf.architectures import Names
from engines.gguf.libllama import is_installed
from engines.gguf.lora_weights import beyond_lora, read_deltas
from engines.gguf.lora_writer import write_lora
from engines.gguf.model import GgufModel
from engines.local.loading import load_model
from finetune.adapters.registry import Adapter
from finetune.export.base import ExportJob, ExportResult
from finetune.export.gguf_base import write_gguf
from finetune.export.gguf_merged import coarsest, merge_gguf
from finetune.export.modelfile import chat_of, write_modelfile
from finetune.export.verify import (
    LARGEST,
    Check,
    VerifiedPrompt,
    compare_gguf,
    compare_model,
    tolerance_of,
)

GGUF, LORA = "model.gguf", "adapter.gguf"
#: The types of transformers as GGUF calls them.
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_UNCHECKED = 'not checked: that needs xllamacpp (`pip install "domainlift[gguf]"`)'


def export_merged(job: ExportJob, build: Path) -> ExportResult:
    """Safetensors of base and adapter in one, in the base's type, with tokenizer and template."""
    verified = job.adapt()
    job.merge().to(job.dtype).save_pretrained(build)
    job.tokenizer.save_pretrained(build)
    model, tokenizer = load_model(str(build), device="cpu", dtype="float32")
    # The base's own weights are exact in their type, so that no drift of theirs says what it costs.
    largest = LARGEST[_TYPES.get(str(job.dtype).removeprefix("torch."), "F32")]
    check = compare_model(verified, model, tokenizer, largest)
    return ExportResult(check, (copyable(f"bench run --model {shlex.quote(str(job.folder))}"),))


def export_gguf_lora(job: ExportJob, build: Path) -> ExportResult:
    """The adapter alone, to be put over any GGUF of its base."""
    need("gguf", "gguf")
    _refuse_more_than_lora(job.adapter)
    Names(job.config)
    write_lora(build / LORA, read_deltas(job.adapter.folder), job.config)
    base = _base_gguf(job) if is_installed() else None
    before = job.ask_base()
    commands = (f"llama-server -m BASE.gguf --lora {shlex.quote(str(job.folder / LORA))}",)
    return _checked(before, base, job.adapt(), base, build / LORA, commands)


def export_gguf(job: ExportJob, build: Path) -> ExportResult:
    """Base and adapter in one GGUF: made of the user's own base GGUF, or written from scratch."""
    need("gguf", "gguf")
    if job.options.base_gguf is not None:
        _refuse_more_than_lora(job.adapter)
        merge_gguf(build / GGUF, job.options.base_gguf, read_deltas(job.adapter.folder), job.config)
    base = _base_gguf(job) if is_installed() else None
    before = job.ask_base()
    verified = job.adapt()
    if job.options.base_gguf is None:
        write_gguf(build / GGUF, job.merge(), job.tokenizer, job.options.stored)
    commands = (f"llama-server -m {shlex.quote(str(job.folder / GGUF))}",)
    return _checked(before, base, verified, build / GGUF, None, commands)


def export_ollama(job: ExportJob, build: Path) -> ExportResult:
    """A folder for `ollama create`: merged weights and a Modelfile with template and stops."""
    chat = chat_of(job.tokenizer)
    written = export_gguf(job, build)
    text = write_modelfile(chat, f"./{GGUF}", job.tokenizer.eos_token)
    write_text(build / "Modelfile", text)
    name = job.options.name or f"{job.adapter.card.domain}-{job.adapter.card.version}"
    create = shlex.join(["ollama", "create", name, "-f", str(job.folder / "Modelfile")])
    run = shlex.join(["ollama", "run", name])
    return ExportResult(written.check, (create, run), written.notes)


def _base_gguf(job: ExportJob) -> Path:
    """The user's GGUF of the base, or one that is written for the check."""
    if job.options.base_gguf is not None:
        return job.options.base_gguf
    path = job.scratch / "base.gguf"
    write_gguf(path, job.model, job.tokenizer, job.options.stored)
    return path


def _checked(
    before: list[VerifiedPrompt],
    base: Path | None,
    verified: list[VerifiedPrompt],
    model: Path | None,
    lora: Path | None,
    commands: tuple[str, ...],
) -> ExportResult:
    """Compare over llama.cpp, allowing what the base model's own GGUF drifts by."""
    if base is None or model is None:
        return ExportResult(None, commands, (_UNCHECKED,))
    drift = _ask_llama(before, base, None, 0.0)
    check = _ask_llama(verified, model, lora, tolerance_of(drift, base.name, coarsest(base)))
    notes = [f"the base model's own GGUF drifts by {drift.max_abs_delta_logprob:.4f} nats"]
    if check.tokenised < 1:
        notes.append(f"llama.cpp cuts only {check.tokenised:.0%} of the prompts as the base does")
    return ExportResult(check, commands, tuple(notes))


def _ask_llama(
    verified: list[VerifiedPrompt], model: Path, lora: Path | None, tolerance: float
) -> Check:
    with GgufModel(model, exact=True) as served:
        if lora is not None:
            served.use_adapter(served.load_adapter(lora))
        return compare_gguf(verified, served, tolerance)


def _refuse_more_than_lora(adapter: Adapter) -> None:
    extension = beyond_lora(adapter.config)
    if extension is not None:
        raise Misuse(
            f"adapter `{adapter.name}` has {extension}, which a GGUF file cannot hold as a LoRA",
            "merge it into the base model: `--to merged`, or `--to gguf` without `--base-gguf`",
        )
