"""Perplexity of a model in training on text that it is not trained on, before and after.

Of the domain: the answers of its held-out rows. Of general text: documents that come with the
project, of domains that the training does not touch; a rise there is forgetting that no question
shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.results.metric_scores import metric_changes
from benchmarks.tasks.perplexity import windows
from domainlift.sampling import sample_evenly
from engines.base import Engine, Mode, Prompt, Request
from finetune.data.row_losses import row_request
from finetune.jobs import TrainingJob, prepared_rows

#: Rows of all learned domains, and windows of general text, at most: a small part of a training.
ROWS, WINDOWS = 100, 12
_METRIC = "word_perplexity"


class HeldOutText:
    """Text that the model in an engine is measured on, now and after the training."""

    def __init__(self, job: TrainingJob, engine: Engine) -> None:
        self._engine = engine
        self._requests = {"domain": list(_of_rows(job)), "general": list(_of_documents(job))}
        self._base = self._ask()
        #: Kind of text -> its perplexity per word, `baseline` and `candidate`, once it is measured.
        self.changes: dict[str, dict[str, Any]] = {}

    def measure(self) -> None:
        """Measure the model as it is now against its first state."""
        after = self._ask()
        for kind, base in self._base.items():
            pairs = (({_METRIC: base[n]}, {_METRIC: after[kind][n]}, "") for n in base)
            for change in metric_changes(pairs).values():
                self.changes[kind] = asdict(change)

    def _ask(self) -> dict[str, dict[str, tuple[float, ...]]]:
        self._engine.close()  # the model may have changed since, and so may its cached prefixes
        return {
            kind: {
                answer.id: (answer.logprobs[0], float(len(words[answer.id])))
                for answer in self._engine.answer(requests)
                if answer.logprobs
            }
            for kind, requests in self._requests.items()
            for words in [{request.id: request.options[0].split() for request in requests}]
        }


def _of_rows(job: TrainingJob) -> Iterator[Request]:
    rows = [row for own in prepared_rows(job, "validation").values() for row in own]
    kept = sample_evenly(rows, ROWS, 0, name=lambda row: row.id, kind=lambda row: row.domain)
    for row in kept:
        yield row_request(row.id, row)


def _of_documents(job: TrainingJob) -> Iterator[Request]:
    """The beginnings of one document after the other, of each domain in turn."""
    folders = [
        domain.documents
        for name, domain in job.domains.items()
        if domain.is_built_in and not domain.suite and domain.documents
        if name not in job.recipe.proportions
    ]
    texts = [path for folder in folders if folder for path in sorted(folder.glob("*.md"))[:2]]
    for path in texts[:WINDOWS]:
        before, piece = next(windows(path.read_text(encoding="utf-8")))
        yield Request(
            f"{path.parent.parent.name}/{path.name}", Mode.CLOZE, Prompt(before), (piece,)
        )
