"""Training of an adapter on rows, resumed exactly after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from domainlift.errors import Misuse
from domainlift.files import exclusive_lock
from finetune.data.rows import Row
from finetune.distributed.process_group import join_group
from finetune.distributed.rank_zero import run_on_rank_zero
from finetune.training.early_stopping import Validate
from finetune.training.gradients import memory_errors
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import encode
from finetune.training.train_output import OnProgress, TrainOutput
from finetune.training.training_loop import TrainingLoop


def train_rows(
    rows: Sequence[Row],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingArguments,
    *,
    checkpoint_folder: Path,
    adapter_folder: Path,
    validate: Validate | None = None,
    notify: OnProgress | None = None,
    on_best: Callable[[Any], None] | None = None,
) -> TrainOutput:
    """Train, from the last checkpoint in `checkpoint_folder` where one is, and save the adapter.

    `model` is given back without the adapter, frozen. `on_best` is called once, with PEFT's model
    and the weights that were saved. Under a launcher every process calls this with the same
    arguments; the first one alone validates, notifies and writes, and the others may lack
    `validate`. Raises Misuse for rows or settings that
    do not fit, Diverged where the loss explodes, BenchError where the memory or the disk is too
    small.
    """
    if not rows:
        raise Misuse("there is nothing to train on", "`bench data prepare DOMAIN` makes rows")
    examples = encode(rows, tokenizer, max_tokens=settings.max_tokens, end=settings.end)
    team = join_group(model.device)
    lock = exclusive_lock(
        checkpoint_folder / "training.lock",
        f"the training in `{checkpoint_folder}`",
        "wait for it, or give this training another folder",
    )
    with lock if team.is_main else nullcontext():
        run_on_rank_zero(team, model, lambda: "ready")
        with memory_errors():
            run = TrainingLoop(examples, model, settings, checkpoint_folder, team)
            try:
                run.resume()
                run.run(validate, notify)
                run.save(adapter_folder)
                if on_best is not None:
                    on_best(run.live)
            finally:
                run.close()
        return run.trained()
