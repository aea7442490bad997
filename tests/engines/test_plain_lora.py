from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from engines.local.plain_lora import EXTENSIONS, lora_extension

peft = pytest.importorskip("peft")

#: Keys of LoraConfig that say where A and B are, how large they are and how they begin, or what
#: the file is. VeLoRA changes the backward pass only.
PLAIN = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    "velora_config",
}
#: What `lora_extension` looks at by itself.
READ = {"bias", "peft_type"}


def test_every_key_of_the_installed_peft_is_plain_or_an_extension() -> None:
    keys = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert keys - PLAIN - READ <= EXTENSIONS.keys()
    assert PLAIN.isdisjoint(EXTENSIONS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 2}}, None),
        ({"init_lora_weights": "pissa"}, None),
        ({"use_dora": True}, "DoRA's magnitudes (`use_dora`)"),
        ({"bias": "all"}, "trained biases (`bias`)"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "outside of layers"),
        ({"layer_replication": [(0, 2), (1, 3)]}, "replicated layers"),
        ({"trainable_token_indices": [1, 2]}, "trained tokens"),
    ],
)
def test_an_extension_is_named_in_a_config_and_in_its_file(
    settings: dict[str, Any], said: str | None
) -> None:
    config = peft.LoraConfig(**settings)
    for values in (vars(config), config.to_dict()):
        found = lora_extension(values)
        assert found is None if said is None else found is not None and said in found


def test_another_kind_of_adapter_is_no_lora() -> None:
    assert lora_extension(vars(peft.IA3Config())) == "an adapter of kind `IA3`"
