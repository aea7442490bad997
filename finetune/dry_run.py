"""`bench train --dry-run`: what would be trained on, and what it would take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from finetune.jobs import build_mix

if TYPE_CHECKING:
    from finetune.distributed.process_group import ProcessGroup
    from finetune.jobs import TrainingJob
    from finetune.memory.cost_model import Prediction
    from finetune.replay_questions import TrainingDomains
    from finetune.training.tokenize import Encoded

_SHOWN = 3


@dataclass(frozen=True)
class DryRun:
    """A training that did not take place.

    `examples` are rows as (what is read, what is trained on); `parameters` are those of the whole
    model.
    """

    name: str
    device: str
    rows: int
    new: Mapping[str, int]
    replay: Mapping[str, int]
    truncated: int
    examples: tuple[tuple[str, str], ...]
    trained_tokens: int
    parameters: int
    prediction: Prediction
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same for JSON."""
        found = self.prediction
        told = asdict(self)
        del told["prediction"]
        return {
            **told,
            "examples": [{"read": read, "trained": said} for read, said in self.examples],
            "trainable": found.trainable,
            "tokens": found.tokens,
            "steps": found.steps,
            "micro_batch": found.micro_batch,
            "checkpointing": found.checkpointing,
            "predicted_peak_bytes": found.peak_bytes,
            "predicted_seconds": found.seconds,
        }


def dry_run(
    wish: TrainingJob, around: TrainingDomains, model: str, device: str, dtype: str
) -> DryRun:
    """Read the rows and the model's configuration, but not its weights."""
    from engines.local.loading import load_config_and_tokenizer, pick_device
    from engines.registry import TINY, source
    from finetune.distributed.fsdp import fsdp_requested
    from finetune.distributed.process_group import from_environment, own_device
    from finetune.memory.cost_model import predict
    from finetune.training.tokenize import decoded, encode

    chosen = pick_device("cpu" if device == "auto" and model == TINY else own_device(device))
    config, tokenizer = load_config_and_tokenizer(source(model), dtype=dtype, device=chosen)
    mixed = build_mix(wish, around, None)
    settings = wish.settings
    team, shared = from_environment(), fsdp_requested(settings.method)
    encoded = encode(mixed.rows, tokenizer, max_tokens=settings.max_tokens, end=settings.end)
    lengths = [(len(each.ids), each.trained) for each in encoded]
    return DryRun(
        name=wish.name,
        device=chosen,
        rows=len(encoded),
        new=mixed.new,
        replay=mixed.replay,
        truncated=sum(each.n_truncated > 0 for each in encoded),
        examples=tuple(decoded(each, tokenizer) for each in _varied(encoded)),
        trained_tokens=sum(each.trained for each in encoded),
        parameters=_parameters(config),
        prediction=predict(config, settings, lengths, chosen, team, shared=shared),
        notes=(*mixed.notes, *_of_several(team, shared)),
    )


def _of_several(team: ProcessGroup, shared: bool) -> Iterator[str]:
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
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return int(AutoModelForCausalLM.from_config(config).num_parameters())
