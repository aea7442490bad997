"""Metrics of a ranking: nDCG, recall, MRR and the share of unjudged hits.

`qrels` are the judgements, {query: {document: grade}}; a document is relevant when its grade is
above 0. `results` are documents per query, best first; where a document stands twice, its first
place counts. As with trec_eval's `-c`, the mean goes over the judged queries that have a relevant
document at all, and such a query without results counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from domainlift.errors import NoSuch

Qrels = Mapping[str, Mapping[str, int]]
Results = Mapping[str, Sequence[str]]

#: What is reported about every way to retrieve.
REPORTED = ("ndcg@10", "recall@10", "recall@100", "mrr@10", "hole@10")


def retrieval_metrics(
    qrels: Qrels, results: Results, wanted: Sequence[str] = REPORTED
) -> dict[str, float]:
    """Return the mean of each wanted metric, `ndcg@10` say."""
    return {name: _mean(name, qrels, results) for name in wanted}


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Order documents by score, highest first; equal scores by name, so that a run repeats."""
    return sorted(scores, key=lambda document: (-scores[document], document))


def judged(qrels: Qrels) -> list[str]:
    """The queries that count: those with a relevant document."""
    return [query for query, grades in qrels.items() if any(g > 0 for g in grades.values())]


def ndcg(grades: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """Discounted cumulative gain over the best one possible, both cut at k.

    DCG = sum of grade / log2(rank + 1), Järvelin and Kekäläinen (2002, ACM TOIS 20); the gain is
    the grade itself, as in trec_eval's `ndcg_cut` and thus BEIR, and a grade below 0 gains nothing.
    """
    best = sorted(grades.values(), reverse=True)
    ideal = _gain(best[:k])
    return _gain([grades.get(d, 0) for d in ranking[:k]]) / ideal if ideal else 0.0


def recall(grades: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """The share of the relevant documents that stand among the first k (trec_eval `recall`)."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def mrr(grades: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """1 / the rank of the first relevant document, 0 where none is among the first k.

    Voorhees (1999, TREC-8), `recip_rank` in trec_eval; its mean over queries bears the name.
    """
    places = (1 / rank for rank, d in enumerate(ranking[:k], 1) if grades.get(d, 0) > 0)
    return next(places, 0.0)


def hole(grades: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """The share of the first k hits that nobody has judged for this query.

    Xiong et al. (2021, ICLR, ANCE) report it: where it differs between methods, the judgements
    favour one of them. (BEIR's variant forgives a document that was judged for another query.)
    """
    top = ranking[:k]
    return sum(document not in grades for document in top) / len(top) if top else 0.0


METRICS: Mapping[str, Callable[[Mapping[str, int], Sequence[str], int], float]] = {
    "ndcg": ndcg,
    "recall": recall,
    "mrr": mrr,
    "hole": hole,
}


def _mean(wanted: str, qrels: Qrels, results: Results) -> float:
    name, _, depth = wanted.partition("@")
    if name not in METRICS or not depth.isdecimal() or int(depth) < 1:
        raise NoSuch("metric", wanted, [f"{known}@10" for known in METRICS])
    queries = judged(qrels)
    values = (
        METRICS[name](qrels[query], list(dict.fromkeys(results.get(query, ()))), int(depth))
        for query in queries
    )
    return math.fsum(values) / len(queries) if queries else 0.0


def _gain(grades: Sequence[int]) -> float:
    return math.fsum(max(0, grade) / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
