"""Metrics of a text against references: SQuAD's EM and F1, ROUGE, BLEU and chrF.

ROUGE is `rouge-score`'s, BLEU and chrF are `sacrebleu`'s (the extra `metrics`); SQuAD's are those
of its evaluation script (Rajpurkar et al. 2016, arXiv 1606.05250).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from domainlift.optional import installed_versions, need

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_form(text: str) -> str:
    """SQuAD's normalisation: small letters, no ASCII punctuation, no English articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(said: str, reference: str) -> float:
    """1 where both are the same after normalisation."""
    return float(squad_form(said) == squad_form(reference))


def word_f1(said: str, reference: str) -> float:
    """F1 of the words of both; where one has none, 1 if neither has any."""
    ours, theirs = squad_form(said).split(), squad_form(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


def rouge(kind: str, said: str, references: Sequence[str]) -> float:
    """F-measure of `rouge1`, `rouge2` or `rougeL`, of the reference that fits best."""
    return float(_rouge_scorer(kind).score_multi(references, said)[kind].fmeasure)


def rouge_signature() -> str:
    """How ROUGE is measured."""
    version = installed_versions("rouge-score").get("rouge-score", "")
    return f"rouge-score:{version}|f-measure|no stemming"


def sacrebleu_statistics(name: str, said: str, references: Sequence[str]) -> tuple[float, ...]:
    """The counts of `bleu` or `chrf` that are summed over a corpus."""
    # sacrebleu's own bootstrap (`sacrebleu.significance`) is made of these two methods.
    columns = [[each] for each in references]
    (counts,) = _sacrebleu(name)._extract_corpus_statistics([said], columns)
    return tuple(map(float, counts))


def sacrebleu_value(name: str, sums: Sequence[float]) -> float:
    """The score of a corpus, 0 to 100, by the sums of its counts."""
    return float(_sacrebleu(name)._aggregate_and_compute([[round(each) for each in sums]]).score)


def sacrebleu_signature(name: str, references: Collection[int]) -> str:
    """The signature of sacrebleu; `references` is how many each question has."""
    metric = _sacrebleu(name)
    counts = set(references)
    metric.num_refs = counts.pop() if len(counts) == 1 else -1
    return str(metric.get_signature())


@cache
def _rouge_scorer(kind: str) -> Any:
    return need("rouge_score.rouge_scorer", "metrics").RougeScorer([kind])


@cache
def _sacrebleu(name: str) -> Any:
    metrics = need("sacrebleu.metrics", "metrics")
    return metrics.BLEU() if name == "bleu" else metrics.CHRF()
