"""Training data of a router, and its features."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from domainlift.sampling import hash_order
from domainlift.types import Split
from ensemble.fit.linear_model import Text, Vectorizer, idf
from ensemble.router.tokenize import router_words, term_of, terms

if TYPE_CHECKING:
    from ensemble.fit.linear_model import Array

#: Texts -> vectors (texts, dimensions); see `rag.embedding`.
Embed = Callable[[Sequence[str]], Any]

# A task of more than MANY questions counts as FEW, for its questions are of one make, and a
# domain's own questions as OWN; no more than MOST of a task are read. All together count as ALL at
# least, which they must beside the glossary where there are no others.
_MANY, _FEW, _OWN, _MOST, _ALL = 250, 8, 40, 1_000, 500
#: What a term of the glossary and a passage count; as the others, found by cross-validation on the
#: development and validation questions of MMLU.
GLOSSARY, PASSAGE = 0.3, 0.1
_COMMON = 12
_PASSAGES, _WORDS = 6_000, 60


@dataclass(frozen=True)
class Labelled:
    """A question with the domain that it belongs to."""

    text: str
    options: tuple[str, ...]
    domain: str
    split: Split
    task: str = ""


@dataclass(frozen=True)
class RouterData:
    """Training data of a router.

    `glossary` holds words by domain; `passages` are texts of a domain each; `embed` gives vectors
    of words, by which words that no question holds get their weights. `note` is written down.
    """

    rows: Sequence[Labelled]
    glossary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passages: Sequence[tuple[str, str]] = ()
    embed: Embed | None = None
    note: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RouterFeatures:
    """Texts and labels of the training data.

    `bare` and `whole` are the rows' texts without and with their options, `labels` the indexes of
    their domains in `names`. `extra` are the terms of the glossary with their labels, `loose`
    passages without any.
    """

    data: RouterData
    names: tuple[str, ...]
    vectorizer: Vectorizer
    labels: Sequence[int]
    bare: Sequence[Text]
    whole: Sequence[Text]
    extra: Sequence[Text]
    extra_labels: list[int]
    loose: Sequence[Text]
    sample_weights: list[float]

    @classmethod
    def of(cls, data: RouterData, names: tuple[str, ...]) -> RouterFeatures:
        """Features of the data; `names` are all domains."""
        bare = [terms([row.text]) for row in data.rows]
        whole = [terms([row.text, *row.options]) for row in data.rows]
        glossary = [(name, term) for name, words in data.glossary.items() for term in words]
        extra = [terms([term]) for _, term in glossary]
        chosen = _sampled(data.passages, _PASSAGES)
        loose = [terms([" ".join(text.split()[:_WORDS])]) for text, _ in chosen]
        vectorizer = _vectorizer(data, [*bare, *whole], [*extra, *map(_exactly, glossary)])
        labels = [names.index(row.domain) for row in data.rows]
        owners = [names.index(name) for name, _ in glossary]
        return cls(
            data,
            names,
            vectorizer,
            labels,
            bare,
            whole,
            extra,
            owners,
            loose,
            _sample_weights(data),
        )


def _sample_weights(data: RouterData) -> list[float]:
    """The weight of each row."""
    sizes = Counter(row.task for row in data.rows)
    large = {task: _OWN if task.startswith("own:") else _FEW for task in sizes}
    counts = [
        1.0 if sizes[row.task] <= _MANY else large[row.task] / sizes[row.task] for row in data.rows
    ]
    factor = max(1.0, _ALL / sum(counts))
    return [count * factor for count in counts]


def _exactly(item: tuple[str, str]) -> Text:
    try:
        return {term_of(item[1]): None}, 1
    except ValueError:
        return {}, 1


def _sampled(passages: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """At most so many, chosen by their content alone."""
    ranked = sorted(passages, key=lambda item: hash_order(item[0]))
    return ranked[:most]


def _vectorizer(data: RouterData, texts: Sequence[Text], extra: Sequence[Text]) -> Vectorizer:
    """Words and pairs of two questions or more, all of the glossary, and common words.

    Each question counts twice. Phrases of three words are looked up where somebody wrote them;
    those of the questions gained nothing in cross-validation, and cost time.
    """
    counts: Counter[str] = Counter()
    for own, _ in texts:
        counts.update(own.keys())
    in_passages = _passage_counts(data)
    chosen = dict.fromkeys(t for t, count in counts.items() if count > 2 and t.count(" ") < 2)
    chosen |= dict.fromkeys(term for own, _ in extra for term in own)
    if data.embed is not None:
        chosen |= dict.fromkeys(w for w, n in in_passages.items() if n >= _COMMON and len(w) > 2)
    inventory = list(chosen)
    single = [term for term in inventory if " " not in term]
    usual = idf(counts, len(texts), inventory)
    loose = len(data.passages)
    rarity = dict(zip(single, idf(counts + in_passages, len(texts) + loose, single), strict=True))
    for place, term in enumerate(inventory):
        usual[place] = rarity.get(term, usual[place])
    index = {term: place for place, term in enumerate(inventory)}
    return Vectorizer(index, usual, _vectors(inventory, data.embed))


def _passage_counts(data: RouterData) -> Counter[str]:
    """In how many passages each word stands."""
    counts: Counter[str] = Counter()
    for text, _ in data.passages:
        counts.update({word for word in router_words(text) if word.isalpha()})
    return counts


def _vectors(inventory: Sequence[str], embed: Embed | None) -> Array | None:
    """Centred vectors of the words; phrases and marks have none."""
    import numpy as np

    if embed is None:
        return None
    places = [n for n, term in enumerate(inventory) if term.isalpha() and len(term) > 1]
    rows = np.asarray(embed([inventory[place] for place in places]), dtype=np.float64)
    vectors = np.zeros((len(inventory), rows.shape[1]))
    vectors[places] = rows - rows.mean(axis=0)
    return vectors


def router_data_digest(data: RouterData) -> str:
    """16 hexadecimal digits of everything that was learned from, but for the vectors."""
    sha = hashlib.sha256()
    for row in data.rows:
        sha.update(json.dumps([row.text, row.options, row.domain, row.split, row.task]).encode())
    for item in (*sorted((k, list(v)) for k, v in data.glossary.items()), *data.passages):
        sha.update(json.dumps(item).encode())
    return sha.hexdigest()[:16]


def subsample(rows: Sequence[Labelled]) -> list[Labelled]:
    """At most so many questions of a task, chosen by their content; in the order of the rows."""
    by_task: dict[str, list[Labelled]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    ranked = (
        sorted(group, key=lambda row: hash_order(row.text))[:_MOST] for group in by_task.values()
    )
    kept = {id(row) for group in ranked for row in group}
    return [row for row in rows if id(row) in kept]
