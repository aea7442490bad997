"""Dry run of a training (`bench train --dry-run`): its rows, and its predicted cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from engines.chat_template import ChatTemplate
from engines.local.loading import load_config_and_tokenizer, pick_device
from engines.local.special_tokens import appending_notes, stop_appending
from engines.registry import TINY, source
from finetune.budget import Machine, RowPlan, former_speed, plan_rows
from finetune.data.rows import Row
from finetune.distributed.fsdp import fsdp_requested
from finetune.distributed.process_group import ProcessGroup, from_environment, own_device
from finetune.jobs import TrainingJob, build_mix, prepared_rows
from finetune.memory.cost_model import Prediction
from finetune.training.tokenize import Encoded, decoded, encode

_SHOWN = 3


@dataclass(frozen=True)
class DryRun:
    """Result of a dry run.

    `examples` are rows as pairs of what is read and what is then trained, several for an agent's
    turn; `parameters` are those of the whole model.
    """

    name: str
    device: str
    rows: int
    new: Mapping[str, int]
    replay: Mapping[str, int]
    truncated: int
    examples: tuple[tuple[tuple[str, str], ...], ...]
    trained_tokens: int
    parameters: int
    prediction: Prediction
    plan: RowPlan
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same for JSON."""
        values = asdict(self)
        predicted, _ = values.pop("prediction"), values.pop("plan")
        return {
            **values,
            **self.plan.as_json(),
            "examples": [_example(parts) for parts in self.examples],
            "predicted_peak_bytes": predicted.pop("peak_bytes"),
            "predicted_seconds": predicted.pop("seconds"),
            **predicted,
        }


def dry_run(
    job: TrainingJob,
    model: str,
    device: str,
    dtype: str,
    rows: Mapping[str, Sequence[Row]] | None = None,
) -> DryRun:
    """Read the rows and the model's configuration, but not its weights.

    `rows` by domain are those that are not prepared yet.
    """
    rows = prepared_rows(job) if rows is None else rows
    chosen = pick_device("cpu" if device == "auto" and model == TINY else own_device(device))
    config, tokenizer = load_config_and_tokenizer(source(model), dtype=dtype, device=chosen)
    appended = stop_appending(tokenizer)
    machine = Machine(config, tokenizer, chosen, former_speed(job, model, chosen.split(":")[0]))
    plan = plan_rows(job, rows, machine)
    mixed = build_mix(job, None, rows if plan.rows is None else plan.rows)
    settings = plan.settings(job.settings)
    team, shared = from_environment(), fsdp_requested(settings.method)
    encoded = encode(mixed.rows, tokenizer, max_tokens=settings.max_tokens, end=settings.end)
    return DryRun(
        name=job.name,
        device=chosen,
        rows=len(encoded),
        new=mixed.new,
        replay=mixed.replay,
        truncated=sum(each.n_truncated > 0 for each in encoded),
        examples=tuple(decoded(each, tokenizer) for each in _varied(encoded)),
        trained_tokens=sum(each.trained for each in encoded),
        parameters=_parameters(config),
        prediction=machine.predict(encoded, settings),
        plan=plan,
        notes=(
            *mixed.notes,
            *_process_notes(team, shared),
            *appending_notes(appended),
            *ChatTemplate(tokenizer).traits.notes(),
        ),
    )


def _example(parts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    read, trained = ("".join(side) for side in zip(*parts, strict=True))
    turns = [{"read": each, "trained": said} for each, said in parts]
    return {"read": read, "trained": trained, **({"turns": turns} if len(turns) > 1 else {})}


def _process_notes(team: ProcessGroup, shared: bool) -> Iterator[str]:
    if team.size > 1:
        what = "a part of the layers" if shared else "the whole model"
        yield f"Memory and time are those of one of {team.size} processes; each holds {what}."


def _varied(encoded: list[Encoded]) -> list[Encoded]:
    """A few rows, each of another domain or kind where there are several."""
    first: dict[tuple[str, str], Encoded] = {}
    for each in encoded:
        first.setdefault((each.row.domain, each.row.kind), each)
    shown = {each.row.id for each in first.values()}
    others = (each for each in encoded if each.row.id not in shown)
    return [*first.values(), *islice(others, max(0, _SHOWN - len(first)))]


def _parameters(config: Any) -> int:
    with torch.device("meta"):
        return int(AutoModelForCausalLM.from_config(config).num_parameters())
