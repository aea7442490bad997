"""Decision of the router: the domain of a question, and on what grounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ensemble.router.documents import FARTHER, FARTHER_WITH_WORDS, NearestSentence

#: What decided.
Stage = Literal["domain", "keywords", "classifier", "embeddings", "documents", "base"]
BASE: Literal["base"] = "base"


@dataclass(frozen=True)
class RouteDecision:
    """The `domain` of a question, or None for the base model, and the stage it was `decided_by`.

    `matched` are the terms that weighed most for the best domain, with their shares of its score,
    and `runner_up_matched` those for the runner-up, or for the likeliest of what is no target.
    `nearest` are the nearest examples of both, each with its domain, where examples were asked.
    `probability` is that of the decision, calibrated; `margin` is `probability` minus that of
    `runner_up` (a domain, `base`, or None), negative where a threshold, or a lack of known words,
    rejected the runner-up. Both are 1 where a domain was named, or the prefilter refused the text.
    Where documents decided, `matched` is their nearest sentence, and `probability` the share of
    questions of elsewhere that are farther.
    """

    domain: str | None
    decided_by: str
    matched: tuple[tuple[str, float], ...] = ()
    probability: float = 1.0
    margin: float = 1.0
    runner_up: str | None = None
    reason: str = ""
    runner_up_matched: tuple[tuple[str, float], ...] = ()
    nearest: tuple[tuple[str, str], ...] = ()


def decide_by_documents(decision: RouteDecision, near: NearestSentence) -> RouteDecision:
    """The decision of words, unless documents are nearer, or farther, than it needs."""
    changed = replace(
        decision,
        probability=round(near.farther, 6),
        margin=round(2 * near.farther - 1, 6),
        nearest=((near.domain, near.sentence),),
    )
    if decision.domain is None and near.farther >= FARTHER:
        why = f"documents: near “{near.sentence}”"
        return replace(
            changed,
            domain=near.domain,
            decided_by="documents",
            matched=((near.sentence, 1.0),),
            runner_up=BASE,
            reason=why,
            runner_up_matched=decision.matched,
        )
    if decision.domain is not None and near.farther < FARTHER_WITH_WORDS:
        why = f"{decision.reason}, but nothing near in documents"
        base = replace(changed, domain=None, decided_by=BASE, runner_up=decision.domain, reason=why)
        return replace(base, probability=round(1 - near.farther, 6), margin=-1.0)
    return decision
