"""Training data of a router, and its features."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from domainlift.sampling import hash_order
from domainlift.types import Split
from ensemble.fit.linear_model import Text, Vectorizer, idf
from ensemble.router.stop_words import tells
from ensemble.router.tokenize import ANY, term_of, terms

# A task counts as so many questions at most, a domain's own as OWN; no more than MOST of a task are
# read. All together count as ALL at least, which they must beside the glossary where there are no
# others.
_TASK, _OWN, _MOST, _ALL = 60, 150, 1_000, 500
# What a term of the glossary counts, a term of the documents, and all sentences of a domain's
# documents together; chosen on one half of MMLU's test questions and of trivia, by a hash.
_GLOSSARY, _TERM, _DOCUMENTS = 0.3, 0.1, 100.0
# Of a domain's documents so many sentences are read, of a length that questions have; and so many
# terms are taken into its glossary, each from a few passages at least.
_SENTENCES, _MINED, _LEAST = 3_000, 800, 8
# A sentence counts as so many questions at most, times so many of a domain without any question.
_SENTENCE_MOST, _ALONE = 5.0, 6.0
_FEW = 500
_LENGTHS = range(40, 301)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")

#: The domain of what is asked where no other fits; what is sent there by mistake harms nothing.
GENERAL = "general"


@dataclass(frozen=True)
class Labelled:
    """A question with the domain that it belongs to, and others `also` right for it.

    A fit takes what has others for that of all of them which it looks like.
    """

    text: str
    options: tuple[str, ...]
    domain: str
    split: Split
    task: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class RouterData:
    """Training data of a router.

    `glossary` holds words by domain; `passages` are texts of a domain each. `note` is written down.
    """

    rows: Sequence[Labelled]
    glossary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passages: Sequence[tuple[str, str]] = ()
    note: Mapping[str, str] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, ...]:
        """All domains of which there is anything."""
        held = {row.domain for row in self.rows} | {domain for _, domain in self.passages}
        return tuple(sorted(held | set(self.glossary)))


@dataclass(frozen=True)
class RouterFeatures:
    """Texts and labels of the training data.

    `bare` and `whole` are the rows' texts without and with their options, `right` the indexes in
    `names` of the domains that are right for each, its own first, and `sources` where they come
    from. `extra` are the `written` terms of
    the glossary, those of the documents, and as the last ones so many `sentences` of documents.
    """

    data: RouterData
    names: tuple[str, ...]
    vectorizer: Vectorizer
    right: Sequence[Sequence[int]]
    sources: Sequence[str]
    bare: Sequence[Text]
    whole: Sequence[Text]
    sample_weights: list[float]
    extra: Sequence[Text]
    extra_labels: list[int]
    extra_weights: list[float]
    written: int
    sentences: int

    @classmethod
    def of(cls, data: RouterData) -> RouterFeatures:
        """Features of the data."""
        names = data.domains
        bare = [_text([row.text]) for row in data.rows]
        whole = [_text([row.text, *row.options]) for row in data.rows]
        entries = [(term, name) for name, words in data.glossary.items() for term in words]
        written = len(entries)
        entries += telling_terms(data.passages)
        glossary = [_entry(term) for term, _ in entries]
        read = document_sentences(data.passages)
        told = [_text([sentence]) for sentence, _ in read]
        asked = {row.domain for row in data.rows}
        sizes = Counter(domain for _, domain in read)
        return cls(
            data,
            names,
            _vectorizer([*bare, *whole], told, [*glossary, *_of_few(read, told, sizes)]),
            [
                [names.index(name) for name in (row.domain, *row.also) if name in names]
                for row in data.rows
            ],
            [row.task.partition(":")[0] for row in data.rows],
            bare,
            whole,
            _sample_weights(data),
            [*glossary, *told],
            [names.index(name) for _, name in (*entries, *read)],
            [_GLOSSARY] * written
            + [_TERM] * (len(glossary) - written)
            + [
                _ALONE ** (name not in asked) * min(_SENTENCE_MOST, _DOCUMENTS / sizes[name])
                for _, name in read
            ],
            written,
            len(read),
        )


def _text(parts: Sequence[str]) -> Text:
    own, words = terms(parts)
    return {term: None for term in own if tells(term)}, words


def _entry(term: str) -> Text:
    """A term of the glossary: itself and its words; a number in it stands for no other."""
    own, words = terms([term])
    held = {each: None for each in own if ANY not in each.split(" ") and tells(each)}
    with suppress(ValueError):
        whole = term_of(term)
        if " " in whole or tells(whole):
            held[whole] = None
    return held, words


def _sample_weights(data: RouterData) -> list[float]:
    """The weight of each row."""
    sizes = Counter(row.task for row in data.rows)
    most = {task: _OWN if task.startswith("own:") else _TASK for task in sizes}
    counts = [min(1.0, most[row.task] / sizes[row.task]) for row in data.rows]
    factor = max(1.0, _ALL / sum(counts))
    return [count * factor for count in counts]


def telling_terms(passages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Terms that are frequent in the passages of one domain and rare in those of others.

    Ranked by the logarithm of how much more often, times the root of the number of passages.
    """
    names = sorted({domain for _, domain in passages})
    counts = {name: Counter[str]() for name in names}
    for text, domain in passages:
        held = terms([text])[0]
        counts[domain].update(t for t in held if t.count(" ") < 2 and ANY not in t and tells(t))
    sizes = Counter(domain for _, domain in passages)
    least = {name: min(_LEAST, 2 + sizes[name] // 100) for name in names}
    common = sorted({t for name in names for t, n in counts[name].items() if n >= least[name]})
    if len(names) < 2 or not common:
        return []
    found = np.array([[counts[name][term] for name in names] for term in common], dtype=float)
    rates = (found + 0.5) / (np.array([sizes[name] for name in names]) + 1.0)
    told: list[tuple[str, str]] = []
    for place, name in enumerate(names):
        rest = np.delete(rates, place, axis=1).mean(axis=1)
        ratio = np.log(rates[:, place] / rest)
        value = np.where(found[:, place] >= least[name], np.sqrt(found[:, place]) * ratio, 0.0)
        best = np.argsort(-value, kind="stable")[:_MINED]
        told += [(common[n], name) for n in best if value[n] > 0]
    return told


def document_sentences(
    passages: Sequence[tuple[str, str]], most: int = _SENTENCES
) -> list[tuple[str, str]]:
    """Sentences of each domain's passages, at most so many, chosen by their content alone."""
    found: dict[str, dict[str, None]] = {}
    for text, domain in passages:
        cut = (each for each in _SENTENCE.split(text) if len(each) in _LENGTHS)
        found.setdefault(domain, {}).update(dict.fromkeys(cut))
    return [
        (sentence, domain)
        for domain, held in found.items()
        for sentence in sorted(held, key=hash_order)[:most]
    ]


def _of_few(
    read: Sequence[tuple[str, str]], told: Sequence[Text], sizes: Mapping[str, int]
) -> list[Text]:
    """The words of domains that have few sentences, where most words stand but once."""
    return [
        ({term: None for term in own if " " not in term}, words)
        for (_, name), (own, words) in zip(read, told, strict=True)
        if sizes[name] <= _FEW
    ]


def _vectorizer(
    texts: Sequence[Text], sentences: Sequence[Text], always: Sequence[Text]
) -> Vectorizer:
    """Words and pairs of two questions or three sentences, and all that is wanted `always`.

    Each question counts twice. Phrases of three words are looked up where somebody wrote them;
    those of the questions gained nothing in cross-validation, and cost time.
    """
    asked: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for counts, group in ((asked, texts), (told, sentences)):
        for own, _ in group:
            counts.update(term for term in own if term.count(" ") < 2)
    inventory = dict.fromkeys(
        term for counts in (asked, told) for term, count in counts.items() if count > 2
    )
    inventory |= dict.fromkeys(term for own, _ in always for term in own)
    index = {term: place for place, term in enumerate(inventory)}
    return Vectorizer(index, idf(asked + told, len(texts) + len(sentences), list(index)))


def router_data_digest(data: RouterData) -> str:
    """16 hexadecimal digits of everything that was learned from."""
    sha = hashlib.sha256()
    for row in data.rows:
        sha.update(json.dumps([row.text, row.options, row.domain, row.split, row.task]).encode())
    for item in (*sorted((k, list(v)) for k, v in data.glossary.items()), *data.passages):
        sha.update(json.dumps(item).encode())
    return sha.hexdigest()[:16]


def subsample(rows: Sequence[Labelled], most: int = _MOST) -> list[Labelled]:
    """At most so many questions of a task, chosen by their content; in the order of the rows."""
    by_task: dict[str, list[Labelled]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    ranked = (
        sorted(group, key=lambda row: hash_order(row.text))[:most] for group in by_task.values()
    )
    kept = {id(row) for group in ranked for row in group}
    return [row for row in rows if id(row) in kept]
