"""Sentences of a user's own documents, by which the router finds questions that its words miss.

A question belongs to the documents that hold a sentence nearer to it than to nearly all questions
that belong elsewhere. How far those are from the documents was measured when the file was made, so
that no cosine has to be judged by itself (a conformal test: Vovk, Gammerman and Shafer,
"Algorithmic Learning in a Random World", 2005).
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

from ensemble.router.classifier import packed_texts, unpacked_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Of the questions that belong elsewhere this share is farther from the documents than what is
#: sent to them, and than what words send there.
FARTHER, FARTHER_WITH_WORDS = 0.98, 0.9
# Cosines that differ by less are equal: an embedding depends a little on what it is computed with.
_NOISE = 1e-3
#: Texts and the name of an embedding model -> vectors of length 1, [texts, dimensions].
EmbedBy = Callable[[Sequence[str], str], Any]


class NearestSentence(NamedTuple):
    """A sentence of a domain's documents, and the share of other questions that are farther."""

    domain: str
    farther: float
    sentence: str


@dataclass(frozen=True)
class DocumentSentences:
    """Sentences with their domains and vectors [sentences, dimensions] by the model `model`.

    `questions` are by domain those that belong elsewhere, and `elsewhere` their cosines with the
    nearest of its sentences, in ascending order.
    """

    model: str
    sentences: tuple[str, ...]
    domains: tuple[str, ...]
    vectors: NDArray[np.float32]
    questions: Mapping[str, tuple[str, ...]]
    elsewhere: Mapping[str, Sequence[float]]

    def nearest(self, vector: NDArray[np.float32], targets: Sequence[str]) -> NearestSentence:
        """The sentence of one of these domains that is nearest for that domain."""
        near = self.vectors @ vector
        ranked = []
        for name in targets:
            start, end = self._places[name]
            place = start + int(near[start:end].argmax())
            ranked.append((self._farther(name, float(near[place])), float(near[place]), place))
        farther, _, place = max(ranked)
        return NearestSentence(self.domains[place], farther, self.sentences[place])

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Where the sentences of each domain begin and end: they stand together."""
        counts = Counter(self.domains)
        return dict(zip(counts, pairwise([0, *accumulate(counts.values())]), strict=True))

    def _farther(self, domain: str, cosine: float) -> float:
        known = self.elsewhere[domain]
        return bisect_left(known, cosine - _NOISE) / (len(known) + 1)


def sentences_bytes(
    model: str,
    sentences: Mapping[str, Sequence[str]],
    vectors: NDArray[Any],
    questions: Mapping[str, Sequence[str]],
    elsewhere: Mapping[str, Sequence[float]],
) -> bytes:
    """The file of sentences by domain, whose vectors stand in their order."""
    import numpy as np

    names = list(sentences)
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        model=packed_texts([model]),
        names=packed_texts(names),
        counts=np.array([[len(sentences[name]), len(questions[name])] for name in names]),
        sentences=packed_texts([" ".join(s.split()) for name in names for s in sentences[name]]),
        vectors=vectors.astype(np.float16),
        questions=packed_texts([" ".join(q.split()) for name in names for q in questions[name]]),
        elsewhere=np.array(
            [each for name in names for each in sorted(elsewhere[name])], dtype=np.float32
        ),
    )
    return buffer.getvalue()


@lru_cache(maxsize=2)
def sentences_from_bytes(content: bytes) -> DocumentSentences:
    """Read a file of sentences, the same one once; ValueError where it is none."""
    import numpy as np

    try:
        with np.load(BytesIO(content), allow_pickle=False) as parts:
            keys = ("names", "sentences", "questions", "model")
            names, told, asked, (model,) = (unpacked_texts(parts[key]) for key in keys)
            counts = parts["counts"].tolist()
            vectors = parts["vectors"].astype(np.float32)
            cosines = parts["elsewhere"].tolist()
    except (OSError, KeyError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from error
    domains = tuple(n for n, (count, _) in zip(names, counts, strict=True) for _ in range(count))
    n_asked = sum(count for _, count in counts)
    if not len(domains) == len(told) == len(vectors) or n_asked != len(cosines):
        raise ValueError("the parts do not belong together")
    ends = list(accumulate(count for _, count in counts))
    parts_of = dict(zip(names, pairwise([0, *ends]), strict=True))
    return DocumentSentences(
        model,
        told,
        domains,
        vectors,
        {name: asked[start:end] for name, (start, end) in parts_of.items()},
        {name: cosines[start:end] for name, (start, end) in parts_of.items()},
    )
