"""Train `tiny`, a Qwen2 of about one million parameters, on two cores in about an hour."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from recipes.tiny import corpus, tokenizer

SEED = 20260
Streams = tuple[Iterator[corpus.Example], Iterator[corpus.Example]]


@dataclass(frozen=True)
class Stage:
    """A part of the training with an optimiser and a schedule of its own."""

    steps: int
    learning_rate: float
    mix: corpus.Mix


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result.

    The first stage teaches the skills in few wordings, which it does fastest; the second unties
    them from those wordings, and reads among more distractors.
    """

    stages: tuple[Stage, ...] = (
        Stage(3000, 2.5e-3, corpus.Mix()),
        Stage(
            900, 1e-3, corpus.Mix(0.2, 0.7, 0.1, distractors=(0.1, 0.2, 0.45, 0.25), logic="varied")
        ),
    )
    readings: int = 40  # examples of each stream in a step
    short: int = 144
    warm_up: int = 100
    weight_decay: float = 0.01
    prompt_weight: float = 0.1  # of a reading's prompt in the loss, where an answer weighs 1
    vocabulary: int = 2048
    context: int = 16384
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    intermediate: int = 384


def train(domains: Path, folder: Path, recipe: Recipe = Recipe()) -> None:
    """Make tokenizer and model and save both into `folder`; progress goes to stderr."""
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    world = corpus.World.load(domains)
    streams = _streams(world, recipe.stages[0].mix, SEED)
    tokenizer.build(
        (e.prompt + e.completion for stream in streams for e in islice(stream, 10_000)),
        folder,
        vocabulary=recipe.vocabulary,
        context=recipe.context,
    )
    tok = AutoTokenizer.from_pretrained(folder)
    model = Qwen2ForCausalLM(_config(Qwen2Config, recipe, len(tok)))
    for number, stage in enumerate(recipe.stages):
        if number:
            streams = _streams(world, stage.mix, SEED + 10 * number)
        run_stage(model, tok, streams, recipe, stage)
        model.save_pretrained(folder, safe_serialization=True)


def run_stage(model: Any, tok: Any, streams: Streams, recipe: Recipe, stage: Stage) -> None:
    """Train for the steps of one stage; each step has a batch of either stream."""
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=stage.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, stage.steps, recipe.warm_up)
    )
    sizes = zip(streams, (recipe.readings, recipe.short), (recipe.prompt_weight, 0.0), strict=True)
    sources = [_batches(stream, tok, size, weight) for stream, size, weight in sizes]
    start = time.monotonic()
    for step in range(1, stage.steps + 1):
        optimiser.zero_grad(set_to_none=True)
        losses = []
        for source in sources:
            loss, answers = _loss(model, *next(source))
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(answers.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == stage.steps:
            _report(step, stage.steps, losses, time.monotonic() - start)


def _report(step: int, steps: int, losses: list[float], elapsed: float) -> None:
    print(
        f"step {step}/{steps}  readings {losses[0]:.3f}  short {losses[1]:.3f}  "
        f"{elapsed:.0f} s, {elapsed / step * (steps - step):.0f} s left",
        file=sys.stderr,
        flush=True,
    )


def _streams(world: corpus.World, mix: corpus.Mix, seed: int) -> Streams:
    return (corpus.readings(world, Random(seed), mix), corpus.short(world, Random(seed + 1), mix))


def _config(kind: Any, recipe: Recipe, vocabulary: int) -> Any:
    return kind(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


def _rate(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then a cosine down to nothing."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _batches(
    stream: Iterator[corpus.Example], tok: Any, size: int, prompt_weight: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of similar length: ids and loss weights, both [batch, length]."""
    rng = Random(SEED + 2)
    while True:
        pool = list(islice(stream, size * 16))
        prompts = tok([e.prompt for e in pool])["input_ids"]
        completions = tok([e.completion for e in pool])["input_ids"]
        rows = sorted(zip(prompts, completions, strict=True), key=lambda r: len(r[0]) + len(r[1]))
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        rng.shuffle(groups)
        for group in groups:
            yield _pad(group, prompt_weight)


def _pad(
    rows: list[tuple[list[int], list[int]]], prompt_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(p) + len(c) for p, c in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        weights[i, : len(prompt)] = prompt_weight
        weights[i, len(prompt) : end] = 1.0
    return ids, weights


def _loss(
    model: Any, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted loss, and that of the answers' tokens alone; nats per token."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    weight = weights[:, 1:]
    # Only what has a weight is projected onto the vocabulary: that is a quarter of the work.
    counted = weight > 0
    logits = model.lm_head(hidden[counted])
    nats = torch.nn.functional.cross_entropy(logits, ids[:, 1:][counted], reduction="none")
    weight = weight[counted]
    answer = (weight == 1.0).float()
    return (nats * weight).sum() / weight.sum(), (nats * answer).sum() / answer.sum()
