"""The targets of an export, one function each: write into a folder, and check what was written."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from domainlift.errors import Misuse
from domainlift.files import write_text
from engines.gguf.architectures import Names, need_gguf
from engines.gguf.libllama import is_installed
from engines.gguf.lora_weights import beyond_lora, read_deltas
from engines.gguf.lora_writer import write_lora
from engines.gguf.model import GgufModel
from engines.local.loading import load_model
from engines.servers.ollama_model import is_older
from finetune.adapters.model_card import CARD, is_hub_name, render_model_card
from finetune.adapters.registry import CONFIG, README, Adapter
from finetune.export.base import ExportJob, ExportResult
from finetune.export.gguf_base import write_gguf
from finetune.export.gguf_merged import coarsest, merge_gguf
from finetune.export.modelfile import NO_ADAPTER_SINCE, chat_of, write_modelfile
from finetune.export.verify import (
    FLOOR,
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
    model, tokenizer = load_model(str(build), device=job.options.device, dtype="float32")
    # The base's own weights are exact in their type, so that no drift of theirs says what it costs.
    largest = LARGEST[_TYPES.get(str(job.dtype).removeprefix("torch."), "F32")]
    check = compare_model(verified, model, tokenizer, largest)
    return ExportResult(check, (f"bench run --model {shlex.quote(str(job.folder))}",))


def export_gguf_lora(job: ExportJob, build: Path) -> ExportResult:
    """The adapter alone, to be put over any GGUF of its base."""
    need_gguf()
    _refuse_more_than_lora(job.adapter)
    Names(job.config)
    write_lora(build / LORA, read_deltas(job.adapter.folder), job.config)
    base = _base_gguf(job) if is_installed() else None
    before = job.ask_base()
    commands = (f"llama-server -m BASE.gguf --lora {shlex.quote(str(job.folder / LORA))}",)
    return _checked(before, base, job.adapt(), base, build / LORA, commands)


def export_gguf(job: ExportJob, build: Path) -> ExportResult:
    """Base and adapter in one GGUF: made of the user's own base GGUF, or written from scratch."""
    need_gguf()
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
    """A folder for `ollama create`: weights and a Modelfile with template and stops."""
    options = job.options
    chat = chat_of(job.tokenizer)
    end = job.tokenizer.eos_token
    takes_adapters = is_older(options.ollama_version, NO_ADAPTER_SINCE)
    notes: tuple[str, ...] = ()
    if options.ollama_from is not None and takes_adapters:
        written = export_gguf_lora(job, build)
        notes = (f"not checked: Ollama's own file of `{options.ollama_from}`",)
        text = write_modelfile(chat, options.ollama_from, f"./{LORA}", end)
    else:
        written = export_gguf(job, build)
        text = write_modelfile(chat, f"./{GGUF}", None, end)
        if options.ollama_from is not None:
            since = ".".join(map(str, NO_ADAPTER_SINCE))
            notes = (f"merged, because Ollama takes no adapters since {since}, or did not answer",)
    write_text(build / "Modelfile", text)
    name = options.name or f"{job.adapter.card.domain}-{job.adapter.card.version}"
    create = shlex.join(["ollama", "create", name, "-f", str(job.folder / "Modelfile")])
    run = shlex.join(["ollama", "run", name])
    return ExportResult(written.check, (create, run), written.notes + notes)


def export_hub(job: ExportJob, build: Path) -> ExportResult:
    """The adapter's own files with its model card, ready to be uploaded."""
    for name in (*job.adapter.card.files, CARD):
        shutil.copyfile(job.adapter.folder / name, build / name)
    readme = job.adapter.folder / README
    text = readme.read_text("utf-8") if readme.is_file() else render_model_card(job.adapter.card)
    write_text(build / README, text)
    notes: tuple[str, ...] = ()
    named = job.adapter.config.get("base_model_name_or_path")
    if not is_hub_name(str(named)):
        notes += (f"{CONFIG} names the base model `{named}`, which is no name on the hub",)
    verified = job.adapt()
    return ExportResult(
        compare_model(verified, job.readapt(build), job.tokenizer, FLOOR), _upload(job), notes
    )


def _upload(job: ExportJob) -> tuple[str, ...]:
    return (f"hf upload ORG/NAME {shlex.quote(str(job.folder))}",)


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
