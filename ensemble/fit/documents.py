"""Fit of the router's sentences: how near questions that belong elsewhere come to documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from domainlift.sampling import sample_evenly
from ensemble.fit.training_data import Labelled
from ensemble.router.documents import EmbedBy, sentences_bytes

#: Sentences of a domain that are kept, and questions that belong elsewhere that are asked. With
#: fewer than 49 of these no question is nearer than 98 of 100, and nothing is routed so.
MOST_SENTENCES, _ELSEWHERE = 5_000, 600


def fit_sentences(
    model: str,
    sentences: Mapping[str, Sequence[str]],
    elsewhere: Mapping[str, Sequence[str]],
    embed: EmbedBy,
) -> bytes:
    """The file of the documents' sentences by domain; b"" where there are none.

    Of many sentences a sample is taken. `elsewhere` are questions that belong to other domains.
    """
    told = {name: _sample(own, MOST_SENTENCES) for name, own in sentences.items() if own}
    if not told:
        return b""
    found = np.asarray(embed([each for own in told.values() for each in own], model))
    vectors = found.astype(np.float16).astype(np.float32)  # as they are kept
    cosines: dict[str, list[float]] = {}
    start = 0
    for name, own in told.items():
        near = vectors[start : start + len(own)]
        asked = list(elsewhere[name])
        cosines[name] = (
            (np.asarray(embed(asked, model)) @ near.T).max(axis=1).tolist() if asked else []
        )
        start += len(own)
    return sentences_bytes(model, told, vectors, elsewhere, cosines)


def questions_elsewhere(name: str, rows: Sequence[Labelled]) -> list[str]:
    """Questions of other domains than this one, an even share of each."""
    others = [row for row in rows if row.domain != name and name not in row.also]
    chosen = sample_evenly(
        others, _ELSEWHERE, 0, name=lambda row: row.text, kind=lambda row: row.domain
    )
    return [row.text for row in chosen]


def _sample(sentences: Sequence[str], most: int) -> list[str]:
    unique = list(dict.fromkeys(sentences))
    return sample_evenly(unique, most, 0, name=lambda each: each, kind=lambda _: "")
