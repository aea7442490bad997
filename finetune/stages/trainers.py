"""TRL's trainers for a stage after `sft`: data, arguments, and a model given back as it was.

What a row is in tokens is decided by this project (`finetune.training.tokenize`), so that a stage
trains what the evaluation asks, and a long row loses the beginning of its prompt, never an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, disable_progress_bars
from transformers.trainer_callback import PrinterCallback

from domainlift.errors import BenchError
from finetune.adapters.methods import recompute
from finetune.data.rows import Row
from finetune.rewards.judge import Judge
from finetune.stages.stage_settings import ORPO, REWARD_MODEL, StageSettings
from finetune.training.precision import autocasts
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import encode

if TYPE_CHECKING:
    from finetune.stages.reward_model import RewardModel

#: The adapter in training, and the frozen copy of it that TRL makes as reference.
POLICY, REFERENCE = "default", "ref"
#: A stage's rate beside that of `sft`; steps of a stage of replies, where none are set.
_RATE, _STEPS = 0.1, 100


@dataclass(frozen=True)
class StageJob:
    """What a stage trains: rows, settings, and where it keeps its checkpoints."""

    stage: str
    rows: Sequence[Row]
    settings: StageSettings
    training: TrainingArguments
    folder: Path


def open_trainer(
    job: StageJob, live: Any, tokenizer: Any, judge: Judge | RewardModel | None
) -> Any:
    """TRL's trainer over an adapter, whose weights now are its reference.

    Raises BenchError where TRL took another reference.
    """
    disable_progress_bars()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if job.stage in _OF_PAIRS:
        data = pair_tokens(job.rows, tokenizer, job.training)
        trainer = _OF_PAIRS[job.stage](job, live, tokenizer, Dataset.from_list(data))
    else:
        assert judge is not None  # noqa: S101
        data = prompts(job.rows, tokenizer, job.training)
        trainer = _reinforced(job, live, tokenizer, Dataset.from_list(data), judge)
    trainer.remove_callback(PrinterCallback)
    if job.settings.has_reference(job.stage):
        check_reference(live)
    return trainer


def pair_tokens(
    rows: Sequence[Row], tokenizer: Any, training: TrainingArguments
) -> list[dict[str, list[int]]]:
    """Prompt, better and worse side of each pair in tokens, the prompt being the same for both."""
    worse = [replace(row, completion=row.rejected, rejected="") for row in rows]
    sides = [
        encode(side, tokenizer, max_tokens=training.max_tokens, end=training.end)
        for side in (rows, worse)
    ]
    pairs = []
    for one, other in zip(*sides, strict=True):
        kept = min(one.prompt_length, other.prompt_length)
        pairs.append(
            {
                "prompt_ids": list(one.ids[one.prompt_length - kept : one.prompt_length]),
                "chosen_ids": list(one.ids[one.prompt_length :]),
                "rejected_ids": list(other.ids[other.prompt_length :]),
            }
        )
    return pairs


def prompts(
    rows: Sequence[Row], tokenizer: Any, training: TrainingArguments
) -> list[dict[str, Any]]:
    """What is asked, as text or turns and as tokens (`asked`), and what a reply is judged by."""
    encoded = encode(rows, tokenizer, max_tokens=training.max_tokens, end=training.end)
    return [
        {
            "prompt": [{"role": turn.role, "content": turn.content} for turn in row.messages]
            or row.prompt.rstrip(" "),
            "reference": row.completion,
            "asked": list(each.ids[: each.prompt_length]),
        }
        for row, each in zip(rows, encoded, strict=True)
    ]


def check_reference(live: Any) -> None:
    """Raise BenchError unless the reference is a copy of the adapter that the stage starts from.

    Trainers before TRL 1.0 take the base model, which undoes the stage before without a word.
    """
    weights = dict(live.named_parameters())
    own = {name: w for name, w in weights.items() if f".{POLICY}." in name}
    copies = {name: weights.get(name.replace(f".{POLICY}.", f".{REFERENCE}.")) for name in own}
    if not own or not all(w is not None and w.equal(own[name]) for name, w in copies.items()):
        raise BenchError(
            "the reference of this stage is not the adapter that it starts from",
            "install trl 1.16 or later: `pip install -U trl`",
        )
    for weight in copies.values():
        weight.requires_grad_(False)  # type: ignore[union-attr]


def steps_asked(job: StageJob) -> int:
    """The steps of the settings: given, or passes over the pairs."""
    settings = job.settings
    if settings.steps is not None:
        return settings.steps
    if job.stage not in _OF_PAIRS:
        return _STEPS
    return max(1, math.ceil(settings.epochs * math.ceil(len(job.rows) / settings.batch)))


@contextmanager
def unchanged(model: Any, tokenizer: Any) -> Iterator[None]:
    """Give model and tokenizer back as they were: TRL leaves the cache off, and its own forward."""
    patched = model.__dict__.get("forward")
    kept = model.config.use_cache, deepcopy(model.generation_config), model.config.pad_token_id
    pad, side, cut = tokenizer.pad_token, tokenizer.padding_side, tokenizer.truncation_side
    try:
        yield
    finally:
        recompute(model, on=False)
        if hasattr(model, "_require_grads_hook"):
            model.disable_input_require_grads()
        model.__dict__.pop("forward", None)
        if patched is not None:
            model.forward = patched
        model.config.use_cache, model.generation_config, model.config.pad_token_id = kept
        tokenizer.pad_token, tokenizer.padding_side, tokenizer.truncation_side = pad, side, cut
        model.requires_grad_(False).eval()


# --- the two kinds of trainers


def _direct(job: StageJob, live: Any, tokenizer: Any, data: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    class Encoded(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *rest: Any, **more: Any) -> Any:
            return dataset

    beta = job.settings.beta_of(job.stage)
    config = DPOConfig(**_arguments(job, live), max_length=None, beta=beta)
    return Encoded(live, args=config, train_dataset=data, processing_class=tokenizer)


def _odds_ratio(job: StageJob, live: Any, tokenizer: Any, data: Any) -> Any:
    from trl.import_utils import suppress_experimental_warning

    with suppress_experimental_warning():
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    class Encoded(ORPOTrainer):  # type: ignore[misc]
        n_tokens = 0

        def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, list[int]]:
            return _labelled_sides(feature)

        def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
            """The paper's loss: the likelihood of the better side, where TRL adds its prompt's."""
            better, worse, *logits, _ = super().concatenated_forward(model, batch)
            sides = (batch["chosen_attention_mask"], batch["rejected_attention_mask"])
            self.n_tokens += sum(int(side.sum()) for side in sides)
            return better, worse, *logits, -better.mean()

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log({**logs, "num_tokens": self.n_tokens}, start_time)

    config = ORPOConfig(
        **_arguments(job, live),
        beta=job.settings.beta_of(ORPO),
        max_length=job.training.max_tokens,
        remove_unused_columns=False,
    )
    return Encoded(live, args=config, train_dataset=data, processing_class=tokenizer)


def _labelled_sides(pair: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Both sides behind the prompt, with -100 where nothing is trained, as TRL's ORPO has them."""
    prompt, sides = pair["prompt_ids"], {}
    for side in ("chosen", "rejected"):
        ids = [*prompt, *pair[f"{side}_ids"]]
        sides[f"{side}_input_ids"] = ids
        sides[f"{side}_attention_mask"] = [1] * len(ids)
        sides[f"{side}_labels"] = [*[-100] * len(prompt), *pair[f"{side}_ids"]]
    return sides


def _scored(job: StageJob, live: Any, tokenizer: Any, data: Any) -> Any:
    from trl import RewardConfig, RewardTrainer

    def joined(pair: Mapping[str, list[int]]) -> dict[str, list[int]]:
        return {side: [*pair["prompt_ids"], *pair[side]] for side in ("chosen_ids", "rejected_ids")}

    config = RewardConfig(**_arguments(job, live), max_length=None)
    whole = data.from_list([joined(pair) for pair in data])
    return RewardTrainer(live, args=config, train_dataset=whole, processing_class=tokenizer)


#: What is trained on pairs.
_OF_PAIRS: dict[str, Callable[..., Any]] = {
    "dpo": _direct,
    ORPO: _odds_ratio,
    REWARD_MODEL: _scored,
}


def _reinforced(
    job: StageJob, live: Any, tokenizer: Any, data: Any, judge: Judge | RewardModel
) -> Any:
    import trl

    settings, name = job.settings, job.stage.upper()
    by_model = not isinstance(judge, Judge)
    config = getattr(trl, f"{name}Config")(
        **_arguments(job, live),
        beta=settings.beta_of(job.stage),
        num_generations=settings.generations,
        max_completion_length=settings.reply_tokens,
        temperature=settings.temperature,
        reward_weights=[1.0] if by_model else [1.0, settings.format_weight],
    )
    rewards = _rewards(judge) if isinstance(judge, Judge) else [_score_of(judge)]
    return getattr(trl, f"{name}Trainer")(live, rewards, config, data, processing_class=tokenizer)


def _arguments(job: StageJob, live: Any) -> dict[str, Any]:
    settings, training = job.settings, job.training
    rate = settings.learning_rate
    if rate is None:
        rate = training.rate(live.config.get_text_config().hidden_size)
        rate *= 1 if job.stage in (ORPO, REWARD_MODEL) else _RATE
    return {
        "output_dir": str(job.folder),
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": training.warm_up,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.clip,
        "per_device_train_batch_size": settings.at_once,
        "gradient_accumulation_steps": settings.batch // settings.at_once,
        "max_steps": steps_asked(job),
        "save_steps": training.save_every,
        "save_total_limit": 2,
        "seed": training.seed,
        # In TRL both are on, wherever it runs: here as in `sft`.
        "bf16": autocasts(live.config, training, live.get_base_model().dtype, str(live.device)),
        "gradient_checkpointing": bool(training.checkpointing),
        "use_cpu": live.device.type == "cpu",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
    }


def _score_of(model: RewardModel) -> Any:
    """The score of what was asked and written, token by token as it was written."""

    def score(
        completion_ids: Sequence[Sequence[int]], asked: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        return model.score([[*ids, *own] for ids, own in zip(asked, completion_ids, strict=True)])

    return score


def _rewards(judge: Judge) -> list[Any]:
    """Being right and having the form as two functions, so that they are logged apart."""
    judged: list[Any] = []

    def accuracy(completions: Sequence[Any], reference: Sequence[str], **_: Any) -> list[float]:
        replies = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
        judged[:] = judge.judge(replies, reference)
        return [each.accuracy for each in judged]

    def format(completions: Sequence[Any], **_: Any) -> list[float]:
        return [each.format for each in judged]

    return [accuracy, format]
