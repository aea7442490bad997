"""Configuration of axolotl to a training's options and back, key by key.

Only what has the same meaning on both sides is translated; the rest is named, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed
from domainlift.workspace import Workspace
from domainlift.yaml_schema import dump_yaml
from finetune.training.settings import TrainingArguments

#: axolotl's key -> the setting that means the same.
_SETTINGS = {
    "adapter": "method",
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lora_target_modules": "targets",
    "learning_rate": "learning_rate",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "warmup_ratio": "warm_up",
    "weight_decay": "weight_decay",
    "max_grad_norm": "clip",
    "seed": "seed",
    "sequence_len": "max_tokens",
    "gradient_checkpointing": "checkpointing",
    "eval_steps": "eval_every",
    "save_steps": "save_every",
    "early_stopping_patience": "patience",
}
_BATCH = ("micro_batch_size", "gradient_accumulation_steps")
#: What is done here in any case, whatever a configuration says.
_ALWAYS = {
    "lora_target_linear": True,
    "train_on_inputs": False,
    # Rows in one pack see one another there, unless its attention is set up for it.
    "sample_packing": False,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
}
_WHY = {
    "trust_remote_code": "a model's code is never run",
    "datasets": "`bench data prepare DOMAIN --from FILE` makes its rows",
    "val_set_size": "`bench data prepare` splits the rows",
    "warmup_steps": "`warm_up` is a share of the steps",
    "special_tokens": "the tokenizer's own are used",
}
_ROWS = {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}"}


def import_config(path: Path) -> tuple[str, dict[str, str]]:
    """The experiment that a configuration amounts to, and why its other keys are left out."""
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Malformed(path, f"cannot be read ({error})") from None
    if not isinstance(given, dict):
        raise Malformed(path, "is no configuration of axolotl", hint="it needs `base_model: NAME`")
    training: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for key, value in ((str(k), _read(v)) for k, v in given.items() if v not in (None, "")):
        if key in ("base_model", "sample_packing") or _ALWAYS.get(key) == value:
            continue
        if key == "load_in_4bit" and value == (given.get("adapter") == "qlora"):
            continue
        if key in ("bf16", "fp16") and value in (True, False, "auto"):
            if key == "bf16" and value is not False:
                training["dtype"] = "bfloat16" if value is True else "auto"
            elif value is not False:
                left_out[key] = "float32 and bfloat16 are computed in"
        elif key in _SETTINGS and _fits(key, value):
            training[_SETTINGS[key]] = value
        elif key in _BATCH and isinstance(value, int):
            training["batch"] = training.get("batch", 1) * value
        else:
            left_out[key] = _WHY.get(key, "nothing here means the same")
    made = {"command": "train", "model": given.get("base_model"), "domains": ["DOMAIN"]}
    try:
        TrainingArguments(**training)
    except TypeError as error:
        raise Malformed(path, f"holds a value of another kind ({error})") from None
    return dump_yaml({**{k: v for k, v in made.items() if v}, "training": training}), left_out


def export_config(options: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The configuration of a training's options, and the keys that it cannot say."""
    settings = dict(options.get("training", {}))
    known = {ours: theirs for theirs, ours in _SETTINGS.items()}
    workspace = Path(options.get("workspace", "workspace"))
    names = [options["data_set"]] if options.get("data_set") else options["domains"]
    made: dict[str, Any] = {
        "base_model": options.get("model", "Qwen/Qwen2.5-3B-Instruct"),
        "adapter": "lora",
        "lora_r": TrainingArguments.rank,
        "lora_alpha": 2 * int(settings.get("rank", TrainingArguments.rank)),
        "datasets": [
            {
                "path": str(Workspace(workspace).data_set(n) / "train.jsonl"),
                "ds_type": "json",
                "type": _ROWS,
            }
            for n in names
        ],
        "sequence_len": TrainingArguments.max_tokens,
        "micro_batch_size": settings.pop("batch", TrainingArguments.batch),
        "gradient_accumulation_steps": 1,
        "num_epochs": TrainingArguments.epochs,
        "learning_rate": 2e-4,
        **_ALWAYS,
    }
    left_out = [k for k in options if k not in ("training", "model", "domains", "data_set")]
    for key, value in settings.items():
        if key == "dtype":
            made["bf16"] = value == "bfloat16" or "auto"
        elif key in known and (key != "method" or value in ("lora", "qlora")):
            made[known[key]] = value
        else:
            left_out.append(f"training.{key}")
    if made["adapter"] == "qlora":
        made["load_in_4bit"] = True
    if "lora_target_modules" in made:
        del made["lora_target_linear"]
    return dump_yaml(made), left_out


def _fits(key: str, value: Any) -> bool:
    """Whether a value means the same here: axolotl has shares of all steps, and other adapters."""
    if key in ("eval_steps", "save_steps"):
        return isinstance(value, int) and not isinstance(value, bool)
    return key != "adapter" or value in ("lora", "qlora")


def _read(value: Any) -> Any:
    """A value as axolotl reads it: `2e-5` is a number there, and to PyYAML a text."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value)
    return float(value) if is_number else value
