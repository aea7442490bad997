"""Budget of a training: how many rows and passes fit into the time, and which rows they are.

The time of a row is predicted from this machine's speed, measured with arrays of the model's width,
or from the tokens per second of a former training of the same model on the same device. Where all
rows fit with all passes, nothing is chosen and nothing changes. Else passes are left out, down to
three, and only then rows: a real model learns about as much from either, and what is left out is
never learned (`perf/README.md`). What is no step is not counted: loading and validation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from domainlift.errors import Malformed, Misuse
from domainlift.sampling import hash_order
from domainlift.workspace import Workspace
from finetune.adapters.registry import AdapterRegistry
from finetune.data.cleaning import prompt_text
from finetune.data.replay import REPLAY_SHARE
from finetune.data.row_selection import select_rows
from finetune.data.rows import Row
from finetune.distributed.fsdp import fsdp_requested
from finetune.distributed.process_group import from_environment
from finetune.jobs import TrainingJob, build_mix
from finetune.memory.cost_model import Prediction, predict_cost
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded, encode
from finetune.validation import question_and_answer
from rag.index.published import PublishedGeneration
from rag.index.store import KnowledgeBaseStore

#: Rows of a domain whose tokens are counted for the time of a row; passages that are read.
_SAMPLE, _PASSAGES = 256, 20_000
#: Passes over many rows that go before passes over few.
_LEAST_PASSES = 3.0
#: Characters of a row that is cut to `max_tokens`, about.
_LONGEST = 4_000
_WRONG, _ASKED = "questions that the model gets wrong", "validation questions, not asked yet"
_BASE = "passages of the knowledge base"


@dataclass(frozen=True)
class Machine:
    """What a training runs on; `speed` is in tokens per second of a former one, if there is one."""

    config: Any
    tokenizer: Any
    device: str
    speed: float | None = None

    def predict(self, encoded: Sequence[Encoded], settings: TrainingArguments) -> Prediction:
        """The cost of a training on these rows."""
        lengths = [(len(each.ids), each.trained) for each in encoded]
        team, shared = from_environment(), fsdp_requested(settings.method)
        found = predict_cost(self.config, settings, lengths, self.device, team, shared=shared)
        return found if self.speed is None else replace(found, seconds=found.tokens / self.speed)


@dataclass(frozen=True)
class RowPlan:
    """Rows and passes of a training.

    `rows` by domain and `passes` are None where all rows and the passes of the settings fit; `by`
    says in one line what was chosen, and why.
    """

    available: int
    chosen: int
    by: str = "all rows"
    rows: Mapping[str, Sequence[Row]] | None = None
    passes: float | None = None
    budget_seconds: float | None = None

    def settings(self, asked: TrainingArguments) -> TrainingArguments:
        """The settings with the passes that fit."""
        return asked if self.passes is None else replace(asked, epochs=self.passes, steps=None)

    def lines(self) -> list[str]:
        """What was left out, and why, in sentences; none where nothing was."""
        rows = f"{self.chosen:,} of {self.available:,} rows are chosen: {self.by}"
        passes = "" if self.passes is None else f"{self.passes:.3g} passes fit into the budget"
        return [*([rows] if self.chosen < self.available else []), *([passes] if passes else [])]

    def as_json(self) -> dict[str, Any]:
        """The figures for JSON."""
        return {
            "rows_available": self.available,
            "rows_chosen": self.chosen,
            "chosen_by": self.by,
            "passes": self.passes,
            "budget_seconds": self.budget_seconds,
        }


def former_speed(job: TrainingJob, model: str, device: str) -> float | None:
    """Tokens per second of the newest adapter of the workspace for this model and device."""
    registry = AdapterRegistry(Workspace(job.workspace).adapters)
    cards = []
    for name in registry.list():
        with suppress(Malformed):  # a damaged one tells nothing
            cards.append(registry.show(name))
    fitting = [card for card in cards if (card.base, card.speed.get("device")) == (model, device)]
    newest = max(fitting, key=lambda card: card.created, default=None)
    return float(newest.speed["tokens_per_second"]) if newest is not None else None


def plan_rows(
    job: TrainingJob,
    rows: Mapping[str, Sequence[Row]],
    machine: Machine,
    missed: Mapping[str, Sequence[str]] | None = None,
) -> RowPlan:
    """Choose of the prepared rows by domain, and passes, what fits into the budget of a job.

    `missed` are by domain the questions, with their answers, that the base model gets wrong and
    that nothing is reported on; None where it was not asked. Raises Misuse where not one pass over
    one batch fits.
    """
    budget, shares = job.sft_budget, job.recipe.proportions
    available = int(min(len(own) / shares[name] for name, own in rows.items()) + 1e-9)
    size = available if budget.rows is None else min(budget.rows, available)
    passes: float | None = None
    if budget.seconds is not None:
        visits = budget.seconds / _seconds_per_visit(job, rows, machine)
        size, passes = _fitted(job, size, visits)
    plan = RowPlan(available, size, passes=passes, budget_seconds=budget.seconds)
    return plan if size == available else _chosen(job, rows, plan, missed)


def replay_seconds(job: TrainingJob, machine: Machine, plan: RowPlan) -> float:
    """The time in which replay answers are generated: a share of the training's predicted one."""
    settings = plan.settings(job.settings)
    rows = build_mix(job, None, plan.rows).rows
    encoded = encode(rows, machine.tokenizer, max_tokens=settings.max_tokens, end=settings.end)
    return REPLAY_SHARE * machine.predict(encoded, settings).seconds


def _seconds_per_visit(
    job: TrainingJob, rows: Mapping[str, Sequence[Row]], machine: Machine
) -> float:
    """Seconds of one new row in one pass, with the replay rows that come with it."""
    sample = {
        name: sorted(own, key=lambda row: hash_order(row.id))[:_SAMPLE]
        for name, own in rows.items()
    }
    mix = build_mix(job, None, sample)
    once = replace(job.settings, epochs=1.0, steps=None)
    encoded = encode(mix.rows, machine.tokenizer, max_tokens=once.max_tokens, end=once.end)
    return machine.predict(encoded, once).seconds / max(1, sum(mix.new.values()))


def _fitted(job: TrainingJob, size: int, visits: float) -> tuple[int, float | None]:
    """Rows and passes whose product is at most `visits`; None for the passes of the settings."""
    settings = job.settings
    asked = settings.epochs
    if settings.steps is not None:
        asked = settings.steps * settings.batch / (size * (1 + job.recipe.replay))
    if size * asked <= visits:
        return size, None
    if job.budget.rows is None:
        least = min(asked, _LEAST_PASSES)
        size = min(size, max(int(visits / least), settings.batch))
    if visits < size * min(asked, 1.0):
        minutes = (job.budget.seconds or 0.0) / 60 * size / visits
        raise Misuse(
            f"`{job.name}`: the budget is too small for one pass over {size} rows",
            f"`--budget-minutes {math.ceil(100 * minutes) / 100:g}` is the least on this machine",
        )
    passes = visits / size
    return size, passes if passes < asked else None


def _chosen(
    job: TrainingJob,
    rows: Mapping[str, Sequence[Row]],
    plan: RowPlan,
    missed: Mapping[str, Sequence[str]] | None,
) -> RowPlan:
    """The plan with the rows that are chosen of each domain by its share."""
    chosen: dict[str, Sequence[Row]] = {}
    told = []
    for name, own in rows.items():
        share = job.recipe.proportions[name]
        targets = _targets(job, name, missed)
        size = max(1, round(plan.chosen * share))
        # Those that are chosen may be longer than most, or shorter: of the time, not of the number.
        found = select_rows(own, size if job.budget.rows is not None else 2 * size, targets)
        length = size * sum(map(_characters, own)) / len(own)
        kept = size if job.budget.rows is not None else _fitting(found.rows, length)
        chosen[name] = found.rows[: max(kept, min(size, job.settings.batch))]
        near = Counter(found.reasons[: len(chosen[name])])
        told += [f"{n:,} near {len(targets[what]):,} {what}" for what, n in near.most_common()]
    by = ", ".join(told) if told else "the most typical of all rows"
    return replace(plan, rows=chosen, chosen=sum(map(len, chosen.values())), by=by)


def _fitting(rows: Sequence[Row], characters: float) -> int:
    """How many of the first rows have so many characters together."""
    return sum(total <= characters for total in accumulate(map(_characters, rows)))


def _characters(row: Row) -> int:
    return min(len(prompt_text(row)) + len(row.completion), _LONGEST)


def _targets(
    job: TrainingJob, name: str, missed: Mapping[str, Sequence[str]] | None
) -> dict[str, Sequence[str]]:
    """Texts that the rows of a domain are to be near to."""
    if missed is not None and missed.get(name):
        questions = {_WRONG: missed[name]}
    else:
        tasks = job.tasks(name, "validation")
        questions = {_ASKED: [question_and_answer(q) for task in tasks for q in task.questions]}
    targets = {**questions, _BASE: _passages(job, name)}
    return {what: texts for what, texts in targets.items() if texts}


def _passages(job: TrainingJob, name: str) -> list[str]:
    store = KnowledgeBaseStore(Workspace(job.workspace).knowledge_bases)
    if name not in store.names():
        return []
    with store.open(name) as generation:
        chunks = PublishedGeneration(generation.folder, generation.manifest).chunks
    return [chunk.text for chunk in chunks[:: -(-len(chunks) // _PASSAGES)]]
