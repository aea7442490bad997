"""Scorer of an lm-eval task: its own filters as the extractor, its own exact match as the rule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.scoring.scorer import BY_REFERENCE, TEXT, Scorer
from domainlift.types import Question

# What lm-eval's regular expressions return where they match nothing.
_NO_MATCH = "[invalid]"
# Filters that change nothing about the only reply, whose white space is not compared anyway.
_NEUTRAL = frozenset({"take_first", "remove_whitespace"})
# Filters that need one reply and its question; others vote over several or run the task's code.
FILTERS = _NEUTRAL | {"regex", "multi_choice_regex", "lowercase", "uppercase", "map"}


def unsupported_filter(config: Mapping[str, Any]) -> str | None:
    """Return the name of the first filter that cannot be applied to one reply by itself."""
    names = (name for pipeline in _pipelines(config) for name in _names(pipeline))
    return next((name for name in names if name not in FILTERS), None)


def lm_eval_scorer(built: Any, config: Mapping[str, Any], docs: Mapping[str, Any]) -> Scorer:
    """Return the scorer of a `generate_until` task; `docs` maps a question's id to its document.

    Of several pipelines of filters the one that is called flexible counts, else the first.
    """
    pipelines = list(_pipelines(config))
    flexible = [each for each in pipelines if str(each.get("name")).startswith("flexible")]
    pipeline = next(iter(flexible or pipelines), None)
    if pipeline is None or set(_names(pipeline)) <= _NEUTRAL:
        return BY_REFERENCE

    def extract(question: Question, reply: str) -> str | None:
        return apply_filters(pipeline, docs[question.id], reply)

    def matches(question: Question, answer: int | str) -> bool:
        if "exact_match" not in metrics:
            return TEXT.matches(question, answer)
        scores = built.process_results(docs[question.id], [answer])
        return bool(scores["exact_match"] == 1)

    metric_list = config.get("metric_list") or []
    metrics = [each.get("metric") for each in metric_list]
    return Scorer("lm-eval " + json.dumps([pipeline, metric_list], default=str), extract, matches)


def apply_filters(pipeline: Mapping[str, Any], doc: Any, reply: str) -> str | None:
    """Return what a pipeline of lm-eval's filters extracts from a reply, None where nothing."""
    from lm_eval.api.instance import Instance
    from lm_eval.filters import build_filter_ensemble

    steps = [dict(step) for step in pipeline.get("filter") or ()]
    ensemble = build_filter_ensemble("", [(step.pop("function"), step) for step in steps])
    instance = Instance("generate_until", doc, ("", {}), 0)
    instance.resps = [reply]
    ensemble.apply([instance])
    extracted = instance.filtered_resps[""]
    if isinstance(extracted, list):  # without `take_first`
        extracted = extracted[0]
    return None if extracted is None or extracted == _NO_MATCH else str(extracted)


def _pipelines(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from config.get("filter_list") or ()


def _names(pipeline: Mapping[str, Any]) -> Iterator[str]:
    return (str(step["function"]) for step in pipeline.get("filter") or ())
