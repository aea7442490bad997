"""Scorer of an lm-eval task: its own filters extract, and its own metric says what is right.

Both are lm-eval's objects, built by it from the task's configuration.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from benchmarks.scoring.replies.reading import Reading
from benchmarks.scoring.scorer import Scorer
from domainlift.errors import BenchError, Misuse
from domainlift.hub_datasets import reason
from domainlift.types import Question

# What lm-eval's regular expressions return where they match nothing.
_NO_MATCH = "[invalid]"
# Metrics that call a reply right or wrong, the first of which counts.
METRICS = ("exact_match", "em", "exact", "acc", "accuracy", "prompt_level_strict_acc")


def scored_metric(config: Mapping[str, Any]) -> str | None:
    """Return the metric by which a `generate_until` task is scored, None where it has none."""
    names = [str(each.get("metric")) for each in config.get("metric_list") or ()]
    own = {name.rpartition(".")[2] for name in names}
    return next((metric for metric in METRICS if metric in own), None)


def lm_eval_scorer(
    name: str, built: Any, config: Mapping[str, Any], docs: Mapping[str, Any]
) -> Scorer:
    """Return the scorer of a `generate_until` task; `docs` maps a question's id to its document.

    Of several lists of filters the one that is called flexible counts, else the first: a strict
    one measures how a reply is written. Misuse where the metric gives a grade.
    """
    metric = str(scored_metric(config))
    filters = _chosen_filters(built)
    _refuse_grades(name, built, metric, docs)

    def extract(question: Question, reply: str) -> Reading | None:
        found = apply_filters(filters, docs[question.id], reply, built.config.repeats)
        first = found[0] if isinstance(found, list) and found else found
        if first is None or first == _NO_MATCH:
            return None
        return Reading(str(first), f"lm-eval:{filters.name}", raw=found)

    def matches(question: Question, reading: Reading) -> bool:
        try:
            return bool(_metric_value(built, metric, docs[question.id], reading.raw) == 1)
        except Exception:  # whatever the task's own code raises on a reply of another form
            return False

    parts = [config.get(key) for key in ("filter_list", "metric_list", "process_results")]
    identity = json.dumps([filters.name, metric, *parts], default=str)
    return Scorer(f"lm-eval {identity}", extract, matches)


def apply_filters(filters: Any, doc: Any, reply: str, repeats: int = 1) -> Any:
    """Return what a list of lm-eval's filters makes of a reply, None where one of them fails.

    A task that asks `repeats` times gets the same reply each time: the most likely one.
    """
    from lm_eval.api.instance import Instance

    instance = Instance("generate_until", doc, ("", {}), 0)
    instance.resps = [reply] * repeats
    try:
        with _punctuation_listed_once():
            filters.apply([instance])
    except Exception:  # whatever the code of a filter raises on a reply that it does not expect
        return None
    return instance.filtered_resps.get(filters.name)


def _chosen_filters(built: Any) -> Any:
    every = built._filters
    return next((f for f in every if str(f.name).startswith("flexible")), every[0])


def _metric_value(built: Any, metric: str, doc: Any, filtered: Any) -> Any:
    return built.process_results(doc, [filtered]).get(metric)


def _refuse_grades(name: str, built: Any, metric: str, docs: Mapping[str, Any]) -> None:
    """Misuse where what the metric says of a reply is neither right nor wrong, or nothing."""
    for reply, doc in _probes(built, docs):
        try:
            value = _metric_value(built, metric, doc, reply)
        except Exception as error:  # whatever the task's own code raises
            raise BenchError(
                f"lm-eval task `{name}` cannot be scored ({reason(error)})",
                "install what its code needs: `pip install 'lm_eval[TASK]'`",
            ) from error
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise Misuse(
                f"lm-eval task `{name}` has metric `{metric}`, which says neither right nor wrong "
                "of one reply",
                f"run it with lm-eval itself: `lm-eval run --tasks {name}`",
            )


def _probes(built: Any, docs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A wrong reply, and right ones: with several references, some metrics give a part of 1."""
    for doc in list(docs.values())[:3]:
        target = built.doc_to_target(doc)
        several = isinstance(target, (list, tuple))
        yield from (("A", doc), *((str(each), doc) for each in (target if several else [target])))


@cache
def _punctuation() -> tuple[int, ...]:
    every = range(sys.maxunicode)
    return tuple(i for i in every if unicodedata.category(chr(i)).startswith("P"))


@contextmanager
def _punctuation_listed_once() -> Iterator[None]:
    # lm-eval's filter for options goes through all of Unicode at each call, a third of a second;
    # it asks of each code whether it is punctuation, so those that are give the same table.
    from lm_eval.filters import extraction

    extraction.range = lambda _: _punctuation()
    try:
        yield
    finally:
        del extraction.range
