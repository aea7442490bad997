"""Registry of export targets: what `bench export --to` can write, and the function that does it.

To add a target, write `finetune/export/NAME.py` with a function

    def export_name(job: ExportJob, build: Path) -> ExportResult

that writes into the folder `build` and checks what it wrote against the evaluated model
(`finetune.export.targets` has the others); then add one line to `TARGETS`.
"""

from __future__ import annotations

from collections.abc import Mapping

#: The target of an export -> the function that writes and checks it, "module:function".
TARGETS: Mapping[str, str] = {
    "merged": "finetune.export.targets:export_merged",
    "gguf-lora": "finetune.export.targets:export_gguf_lora",
    "gguf": "finetune.export.targets:export_gguf",
    "ollama": "finetune.export.targets:export_ollama",
}
