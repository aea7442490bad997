"""Key-value caches of soft prompts (prompt tuning, p-tuning, prefix tuning).

A soft prompt is a number of virtual positions that every token sees: trained embeddings (prompt
tuning, p-tuning), or a key and a value in each layer (prefix tuning). Either way the cache is not
empty when the first token arrives, and all positions move by its length.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from domainlift.errors import Misuse

#: PEFT's kinds of soft prompts that are the same before every text.
KINDS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")


@dataclass(frozen=True)
class SoftPrompt:
    """`length` virtual positions, and the cache that holds them alone; none by default."""

    length: int = 0
    kept: Any = None

    def cache(self, config: Any) -> Any:
        """A cache for a model of this configuration that begins with the soft prompt; writable."""
        if self.kept is not None:
            return copy.deepcopy(self.kept)
        from transformers import DynamicCache

        return DynamicCache(config=config)


def soft_prompt_of(live: Any) -> SoftPrompt:
    """The present soft prompt of PEFT's model; an empty one where weights are trained.

    Raises Misuse for kinds other than `KINDS`, and where the architecture keeps no such cache.
    """
    config = getattr(live, "active_peft_config", None)
    if config is None or not config.is_prompt_learning:
        return SoftPrompt()
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind not in KINDS:
        raise Misuse(
            f"prompts of the kind `{kind}` are not scored here",
            "train them with `method: prompt` or `method: prefix`",
        )
    cache = _cache_of(live)
    if cache.get_seq_length() != config.num_virtual_tokens:
        raise Misuse(
            f"{type(live.get_base_model()).__name__} keeps no keys and values before which "
            "trained prompts could stand",
            "train with another method: `method: lora`",
        )
    return SoftPrompt(config.num_virtual_tokens, cache)


def _cache_of(live: Any) -> Any:
    """Prefix tuning has keys and values of its own; embeddings go through the model once."""
    import torch
    from transformers import DynamicCache

    with torch.no_grad():
        prompts = live.get_prompt(1)
        if not isinstance(prompts, torch.Tensor):
            return prompts
        model = live.get_base_model()
        cache = DynamicCache(config=model.config)
        embeddings = prompts.to(model.get_input_embeddings().weight.dtype)
        model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache
