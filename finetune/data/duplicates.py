"""Removal of duplicate and near-duplicate rows.

Two rows are near-duplicates where the 5-grams of their words, and those of their answers alone,
have a Jaccard index |A ∩ B| / |A ∪ B| of at least 0.8. Of a long prompt the end is looked at,
because that is where the question stands: many questions may share one passage, and one question
may have several answers.

The search is exact. Grams are sorted by how rare they are; two sets whose index is t or more share
one of the first n - ⌈t·n⌉ + 1 grams (prefix filtering: Bayardo, Ma and Srikant, "Scaling up all
pairs similarity search", 2007), so only rows that share a rare gram are compared.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domainlift.text.ngrams import jaccard, ngrams
from domainlift.text.normalise import words_and_signs
from finetune.data.cleaning import prompt_text
from finetune.data.rows import Row

Hashes = NDArray[np.int64]

SIZE = 5
JACCARD = 0.8
#: So many words of the end of a prompt are compared.
_TAIL = 64


def without_near_duplicates(
    rows: Sequence[Row], share: float = JACCARD
) -> tuple[list[Row], int, int]:
    """The rows that differ, in their order, and how many were exact and how many near copies.

    Of copies the first is kept.
    """
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.id, row)
    unique = list(first.values())
    kept = _far_apart(unique, share)
    return kept, len(rows) - len(unique), len(unique) - len(kept)


def _far_apart(rows: Sequence[Row], share: float) -> list[Row]:
    if not rows:
        return []
    sets, prefixes = _by_rarity([_whole(row) for row in rows], share)
    holders: dict[int, list[int]] = defaultdict(list)
    kept = []
    for place, prefix in enumerate(prefixes):
        others = dict.fromkeys(other for gram in prefix for other in holders.get(gram, ()))
        if not any(_near(rows, sets, (place, other), share) for other in others):
            kept.append(rows[place])
            for gram in prefix:
                holders[gram].append(place)
    return kept


def _whole(row: Row) -> array[int]:
    prompt = words_and_signs(prompt_text(row))[-_TAIL:]
    return array("q", {hash(gram) for gram in ngrams([*prompt, *_answer(row)], SIZE)})


def _answer(row: Row) -> list[str]:
    sides = f"{row.completion} {row.rejected}"
    return words_and_signs(sides) or [sides.strip()]


def _by_rarity(sets: Sequence[array[int]], share: float) -> tuple[list[Hashes], list[list[int]]]:
    """Each set with its rarest grams first, and of their prefixes what more than one set holds."""
    codes = np.concatenate([np.frombuffer(grams, dtype=np.int64) for grams in sets])
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rarity = counts[inverse]
    ordered, prefixes, start = [], [], 0
    for size in map(len, sets):
        own, rare = codes[start : start + size], rarity[start : start + size]
        order = np.lexsort((own, rare))
        # The small number keeps a product like 0.8 x 35 from being rounded up.
        reach = order[: size - math.ceil(share * size - 1e-9) + 1]
        ordered.append(own[order])
        prefixes.append(own[reach][rare[reach] > 1].tolist())
        start += size
    return ordered, prefixes


def _near(rows: Sequence[Row], sets: Sequence[Hashes], pair: tuple[int, int], share: float) -> bool:
    one, other = (sets[place] for place in pair)
    if min(len(one), len(other)) < share * max(len(one), len(other)):
        return False
    if jaccard(set(one.tolist()), set(other.tolist())) < share:
        return False
    answers = (ngrams(_answer(rows[place]), SIZE) for place in pair)
    return jaccard(*answers) >= share
