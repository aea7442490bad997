"""Fit of the router's second opinion: a linear model over the vectors of its examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ensemble.fit.linear_model import linear_of_partial_labels
from ensemble.fit.training_data import Labelled
from ensemble.router.examples import Embed, Examples

# A task counts as so many questions at most, a word of a glossary and a sentence of documents as a
# part of one. Chosen on sources left out, as was the strength of the regression.
_TASK, _WORD, _SENTENCE, _STRENGTH = 50, 0.5, 0.2, 1.0


def fit_examples(
    model: str,
    questions: Sequence[Labelled],
    glossary: Mapping[str, Sequence[str]],
    sentences: Sequence[tuple[str, str]],
    embed: Embed,
) -> Examples:
    """Embed questions, words and sentences by the model of that name, and learn from all."""
    sizes = Counter(row.task for row in questions)
    held = [(q.text, (q.domain, *q.also), min(1.0, _TASK / sizes[q.task]) / 2) for q in questions]
    held += [(word, (name,), _WORD) for name, words in glossary.items() for word in words]
    held += [(sentence, (name,), _SENTENCE) for sentence, name in sentences]
    names = sorted({right[0] for _, right, _ in held})
    places = [[names.index(name) for name in right if name in names] for _, right, _ in held]
    vectors = np.asarray(embed([text for text, *_ in held]), dtype=np.float32)
    weights = np.array([weight for *_, weight in held])
    found, labels = linear_of_partial_labels(vectors, places, weights, len(names), _STRENGTH)
    return Examples(
        model,
        tuple(text for text, *_ in held),
        tuple(names[label] for label in labels),
        vectors,
        tuple(names),
        np.vstack([found.weights, found.bias]).astype(np.float32),
    )
