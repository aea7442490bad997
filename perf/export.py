"""Cost of an export: drift of log-probabilities, agreement, size and time, per kind.

python -m perf.export
BENCH_DATA=FOLDER python -m perf.export --model tiny 0.5b --layers 2

The embedded model, and random weights of Qwen2.5-0.5B's shape with few layers and its own
tokenizer (that needs the mirror). Each gets a LoRA on all linear layers, trained for some steps on
biology's training questions. Both sides answer the same 64 validation questions; GGUF files are
read by llama.cpp in this process. The drift is the largest of the ten likeliest tokens of all
prompts, against transformers in 32 bits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from domainlift.workspace import Workspace
from perf import shapes

if TYPE_CHECKING:
    from finetune.adapters.registry import Adapter

_RATE = {"tiny": 3e-3, "0.5b": 1e-3}
_PROMPTS = 64
#: What is shown, the kind of export, and how weights are stored; "base" starts of a file.
_CASES = (
    ("gguf-lora over f16", "gguf-lora", "f16", ""),
    ("gguf-lora over q8_0", "gguf-lora", "q8_0", ""),
    ("gguf f16", "gguf", "f16", ""),
    ("gguf q8_0", "gguf", "q8_0", ""),
    ("gguf q8_0, made of the base's", "gguf", "q8_0", "base"),
    ("merged safetensors", "merged", "f16", ""),
)


def main() -> None:
    """Train an adapter per model, export it in every way, and print the table."""
    parser = argparse.ArgumentParser(description="how exact and how large exports are")
    parser.add_argument("--model", choices=tuple(_RATE), nargs="+", default=["tiny"])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", type=int, default=16)
    settings = parser.parse_args()
    print("| model | export | max abs Δ, nats | agreement | allowed, nats | MB | s |")
    print("|---|---|---|---|---|---|---|")
    effects = []
    for name in settings.model:
        with TemporaryDirectory() as folder:
            effects.append(_measure(name, Path(folder), settings))
    print(
        f"\n{_PROMPTS} prompts, rank {settings.rank}, {settings.steps} steps; " + "; ".join(effects)
    )


def _measure(name: str, folder: Path, settings: Any) -> str:
    """Print one line per export; say how far the adapter moves the answers."""
    from finetune.export.base import ExportJob, ExportOptions
    from finetune.export.exporting import export_adapter

    base = _base(name, folder, settings.layers)
    adapter = _trained(base, folder, _RATE[name], settings)
    prompts = [prompt for prompt, _ in _questions("validation")[:_PROMPTS]]
    job = ExportJob(adapter, str(base), ExportOptions(prompts=prompts))
    job.adapt()
    for number, (shown, kind, stored, source) in enumerate(_CASES):
        file = _base_gguf(base, folder, stored) if source else None
        options = ExportOptions(stored=stored, base_gguf=file, prompts=prompts)
        start = time.perf_counter()
        made = export_adapter(adapter, str(base), kind, folder / f"out{number}", options)
        seconds = time.perf_counter() - start
        check, size = made.check, _size(made.path)
        if check is not None:
            print(
                f"| {name} | {shown} | {check.max_abs_delta_logprob:.5f} "
                f"| {check.agreement:.3f} | {check.tolerance:.3f} | {size / 1e6:.1f} "
                f"| {seconds:.1f} |",
                flush=True,
            )
    return f"the adapter moves {name} by up to {job.effect:.2f} nats"


def _base(name: str, folder: Path, layers: int) -> Path:
    """The folder of the base model."""
    if name == "tiny":
        from engines.registry import tiny_folder

        return tiny_folder()
    path = folder / "base"
    made = shapes.model(name, layers=layers, device="cpu", dtype="float32")
    # As models of this family are published, so that files have the sizes that people meet.
    made.bfloat16().save_pretrained(path)
    shapes.tokenizer().save_pretrained(path)
    return path


def _trained(base: Path, folder: Path, rate: float, settings: Any) -> Adapter:
    """A LoRA that has learned some of biology's training questions."""
    import peft
    import torch

    from engines.local.loading import load_model, model_digest
    from finetune.adapters.registry import AdapterDraft, AdapterRegistry

    model, tokenizer = load_model(str(base), device="cpu", dtype="float32")
    found = model_digest(str(base), model)
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    wrapped = peft.get_peft_model(model, config)
    weights = [weight for weight in wrapped.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=rate)
    rows = [prompt + answer for prompt, answer in _questions("train")]
    for step in range(settings.steps):
        for row in rows[8 * step : 8 * step + 8]:
            tokens = torch.tensor([tokenizer(row)["input_ids"]])
            (wrapped(input_ids=tokens, labels=tokens).loss / 8).backward()
        optimiser.step()
        optimiser.zero_grad()
    wrapped.save_pretrained(folder / "draft")
    draft = AdapterDraft("biology", folder / "draft", "lora", str(base), found)
    return AdapterRegistry(Workspace(folder).adapters).publish(draft)


def _questions(split: Any) -> list[tuple[str, str]]:
    from benchmarks.tasks.registry import load_task
    from finetune.data.sources.questions import prompt_completion
    from knowledge_bases.domains import load_domains

    task = load_task("own:biology", data=None, domains=load_domains(), split=split)
    return [prompt_completion(question, task) for question in task.questions]


def _base_gguf(base: Path, folder: Path, stored: str) -> Path:
    from engines.local.loading import load_model
    from finetune.export.gguf_base import write_gguf

    path = folder / f"base-{stored}.gguf"
    write_gguf(path, *load_model(str(base), device="cpu", dtype="float32"), stored)
    return path


def _size(folder: Path) -> int:
    """Bytes of the weights that an export wrote."""
    kept = (".gguf", ".safetensors")
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in kept)


if __name__ == "__main__":
    main()
