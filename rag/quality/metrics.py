"""Metrics of a ranking: nDCG, recall, MRR and the share of unjudged hits.

`qrels` are the judgements, {query: {document: grade}}; a document is relevant when its grade is
above 0. `results` are documents per query, best first; where a document stands twice, its first
place counts. As with trec_eval's `-c`, the mean goes over the judged queries that have a relevant
document at all, and such a query without results counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Qrels = Mapping[str, Mapping[str, int]]
Results = Mapping[str, Sequence[str]]


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


#: What is reported about every way to retrieve: the metric, and at how many documents it is cut.
REPORTED = {
    "ndcg@10": (ndcg, 10),
    "recall@10": (recall, 10),
    "recall@100": (recall, 100),
    "mrr@10": (mrr, 10),
    "hole@10": (hole, 10),
}


def retrieval_metrics(qrels: Qrels, results: Results) -> dict[str, float]:
    """Return the mean of each metric over the queries that count."""
    pairs = [(qrels[q], list(dict.fromkeys(results.get(q, ())))) for q in judged(qrels)]
    return {
        name: math.fsum(metric(*pair, k) for pair in pairs) / max(1, len(pairs))
        for name, (metric, k) in REPORTED.items()
    }


def _gain(grades: Sequence[int]) -> float:
    return math.fsum(max(0, grade) / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
