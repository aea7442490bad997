"""Reward model of a stage `reward`: a LoRA adapter and a scalar head on the base's own weights.

It is trained on pairs by TRL's RewardTrainer (the likelihood of Bradley and Terry, 1952, Biometrika
39: the better side is preferred with probability sigmoid of the difference of the scores), and is
PEFT's adapter of a transformers model for sequence classification, of one label. Both it and the
policy share the base in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from finetune.adapters.methods import attach, detach
from finetune.data.rows import Row
from finetune.stages.trainers import pair_tokens
from finetune.training.gradients import eval_mode
from finetune.training.settings import TrainingArguments

#: The adapter's name beside the policy's.
NAME = "reward"
#: Sequences that are scored at once.
_BATCH = 16


def reward_network(model: Any, seed: int = 0) -> Any:
    """A model for sequence classification over the layers of a language model, with a new head."""
    config = deepcopy(model.config)
    config.num_labels = 1
    width = config.get_text_config().hidden_size
    with torch.device("meta"):  # its own layers are never made
        network = AutoModelForSequenceClassification.from_config(config)
    setattr(network, network.base_model_prefix, model.base_model)
    torch.manual_seed(seed)
    network.score = torch.nn.Linear(width, 1, bias=False, dtype=model.dtype, device=model.device)
    torch.nn.init.normal_(network.score.weight, std=width**-0.5)
    return network


@contextmanager
def new_reward_model(model: Any, settings: TrainingArguments) -> Iterator[Any]:
    """A reward model to train; afterwards the language model is as it was."""
    live = attach(reward_network(model, settings.seed), settings, task="SEQ_CLS")
    try:
        yield live
    finally:
        detach(live)


def preferred(
    live: Any, pairs: Sequence[Row], tokenizer: Any, training: TrainingArguments
) -> list[bool]:
    """For each pair whether the better side has the higher score."""
    told = [
        scores(
            live, [[*each["prompt_ids"], *each[side]] for each in tokens], tokenizer.pad_token_id
        )
        for tokens in [pair_tokens(pairs, tokenizer, training)]
        for side in ("chosen_ids", "rejected_ids")
    ]
    return [one > other for one, other in zip(*told, strict=True)]


def scores(network: Any, sequences: Sequence[Sequence[int]], pad: int) -> list[float]:
    """The score of each sequence of tokens, read at its last one."""
    found = [0.0] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        rows = [torch.tensor(sequences[place]) for place in places]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
        given = {"input_ids": ids.to(network.device), "attention_mask": mask.to(network.device)}
        with torch.no_grad():
            told = network(**given, use_cache=False).logits
        for place, value in zip(places, told[:, 0].float().tolist(), strict=True):
            found[place] = value
    return found


class RewardModel:
    """A trained reward model beside the policy, on the same base."""

    def __init__(self, live: Any, folder: Path, tokenizer: Any) -> None:
        weights = load_file(folder / "adapter_model.safetensors")
        (head,) = [weights.pop(name) for name in [*weights] if name.endswith("score.weight")]
        config = PeftConfig.from_pretrained(str(folder))
        # To the policy it is another adapter; the head stands apart.
        config.task_type, config.modules_to_save = "CAUSAL_LM", None
        pad = tokenizer.pad_token_id
        self._live, self._pad = live, tokenizer.eos_token_id if pad is None else pad
        live.add_adapter(NAME, config)
        set_peft_model_state_dict(live, weights, NAME)
        for name, weight in live.named_parameters():
            if f".{NAME}." in name:
                weight.requires_grad_(False)
        self._network = reward_network(live.get_base_model())
        self._network.score.weight.data.copy_(head)
        self._network.config.get_text_config().pad_token_id = self._pad

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """The score of each sequence of tokens; the policy is as before afterwards."""
        with self._answering():
            return scores(self._network, sequences, self._pad)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        active, training = self._live.active_adapter, self._live.training
        self._live.set_adapter(NAME)
        try:
            with eval_mode(self._live):
                yield
        finally:
            self._live.train(training)
            self._live.set_adapter(active)
