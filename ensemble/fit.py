"""Fit the router to labelled questions.

Rows of labelled questions, hand-written glossaries and, where wanted, passages of the domains go
in; a linear model over words and phrases is fitted, cut down to the keywords that a person can
read, and both are calibrated on validation questions that the fit has not seen (in folds; the
weights that are kept come from all rows).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from domainlift.questions import Split
from ensemble.classifier import packed
from ensemble.keywords import Calibration, DomainTerms, Keywords
from ensemble.learning import Linear, Space, Text, cut, distilled, linear, rarity, softmax
from ensemble.learning import temperature as best_temperature
from ensemble.terms import term_of, terms, words

if TYPE_CHECKING:
    from ensemble.learning import Array

#: Texts -> vectors (texts, dimensions); see `rag.embedding`.
Embed = Callable[[Sequence[str]], Any]
Notify = Callable[[str], None]

FOLDS = 4
#: Fewer validation questions than these calibrate nothing.
LEAST = 40
# A task of more than MANY questions counts as FEW, for its questions are of one make, and a
# domain's own questions as OWN; no more than MOST of a task are read. All together count as ALL at
# least, which they must beside the glossary where there are no others.
_MANY, _FEW, _OWN, _MOST, _ALL = 250, 8, 40, 1_000, 500
# Found, as the others, by cross-validation on MMLU's development and validation questions.
_GLOSSARY, _PASSAGE = 0.3, 0.1
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
class Material:
    """What a router is learned from.

    `glossary` holds words by domain; `passages` are texts of a domain each; `embed` gives vectors
    of words, by which words that no question holds get their weights. `note` is written down.
    """

    rows: Sequence[Labelled]
    glossary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passages: Sequence[tuple[str, str]] = ()
    embed: Embed | None = None
    note: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How much is kept, and whose routing the thresholds are chosen for (None: all domains).

    `keywords` is the largest number of weights in the keyword file, `weights` that of the small
    classifier; 0 makes none.
    """

    keywords: int = 6_000
    weights: int = 90_000
    targets: Sequence[str] | None = None


def fit(
    material: Material, settings: Settings = Settings(), notify: Notify | None = None
) -> Keywords:
    """Learn weights, calibration and thresholds; the same material gives the same bytes.

    Questions of the test split are refused: what is measured on them would mean nothing.
    """
    say = notify if notify is not None else lambda _: None
    _check(material.rows)
    material = replace(material, rows=_thinned(material.rows))
    names = tuple(sorted({row.domain for row in material.rows} | set(material.glossary)))
    say("counting words")
    stock = _Stock.of(material, names)
    held_out = _held_out(stock, settings, say)
    say("fitting on everything")
    both = _learned(stock, settings, range(len(material.rows)))
    return _assembled(stock, settings, both, held_out)


def digest(material: Material) -> str:
    """16 hexadecimal digits of everything that was learned from, but for the vectors."""
    sha = hashlib.sha256()
    for row in material.rows:
        sha.update(json.dumps([row.text, row.options, row.domain, row.split]).encode())
    for item in (*sorted((k, list(v)) for k, v in material.glossary.items()), *material.passages):
        sha.update(json.dumps(item).encode())
    return sha.hexdigest()[:16]


def _check(rows: Sequence[Labelled]) -> None:
    if len({row.domain for row in rows}) < 2:
        raise Misuse(
            "a router needs labelled questions of at least two domains",
            "give a suite that has them: `bench route fit --suite demo`",
        )
    tested = next((row.task for row in rows if row.split == "test"), None)
    if tested is not None:
        raise Misuse(f"`{tested}` gave a question of its test split, which is never fitted to")


def _thinned(rows: Sequence[Labelled]) -> list[Labelled]:
    """At most so many questions of a task, chosen by their content; in the order of the rows."""
    by_task: dict[str, list[Labelled]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    ranked = (sorted(held, key=lambda row: _rank(row.text))[:_MOST] for held in by_task.values())
    kept = {id(row) for held in ranked for row in held}
    return [row for row in rows if id(row) in kept]


def _rank(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


# --- what is learned from, as numbers


@dataclass(frozen=True)
class _Stock:
    """The material as texts; each row stands there twice, without and with its options."""

    material: Material
    names: tuple[str, ...]
    space: Space
    labels: Sequence[int]
    bare: Sequence[Text]
    whole: Sequence[Text]
    extra: Sequence[Text]
    extra_labels: list[int]
    loose: Sequence[Text]
    shares: list[float]

    @classmethod
    def of(cls, material: Material, names: tuple[str, ...]) -> _Stock:
        bare = [terms([row.text]) for row in material.rows]
        whole = [terms([row.text, *row.options]) for row in material.rows]
        glossary = [(name, term) for name, held in material.glossary.items() for term in held]
        extra = [terms([term]) for _, term in glossary]
        chosen = _sampled(material.passages, _PASSAGES)
        loose = [terms([" ".join(text.split()[:_WORDS])]) for text, _ in chosen]
        space = _space(material, [*bare, *whole], [*extra, *map(_exactly, glossary)])
        labels = [names.index(row.domain) for row in material.rows]
        owners = [names.index(name) for name, _ in glossary]
        return cls(
            material, names, space, labels, bare, whole, extra, owners, loose, _shares(material)
        )


def _shares(material: Material) -> list[float]:
    """What each row counts."""
    sizes = Counter(row.task for row in material.rows)
    large = {task: _OWN if task.startswith("own:") else _FEW for task in sizes}
    counts = [
        1.0 if sizes[row.task] <= _MANY else large[row.task] / sizes[row.task]
        for row in material.rows
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
    ranked = sorted(passages, key=lambda item: _rank(item[0]))
    return ranked[:most]


def _space(material: Material, texts: Sequence[Text], extra: Sequence[Text]) -> Space:
    """Words and pairs of two questions or more, all of the glossary, and common words.

    Each question counts twice. Phrases of three words are looked up where somebody wrote them;
    those of the questions gained nothing in cross-validation, and cost time.
    """
    counts: Counter[str] = Counter()
    for found, _ in texts:
        counts.update(found.keys())
    around = _around(material)
    chosen = dict.fromkeys(t for t, count in counts.items() if count > 2 and t.count(" ") < 2)
    chosen |= dict.fromkeys(term for found, _ in extra for term in found)
    if material.embed is not None:
        chosen |= dict.fromkeys(w for w, n in around.items() if n >= _COMMON and len(w) > 2)
    inventory = list(chosen)
    single = [term for term in inventory if " " not in term]
    usual = rarity(counts, len(texts), inventory)
    loose = len(material.passages)
    known = dict(zip(single, rarity(counts + around, len(texts) + loose, single), strict=True))
    for place, term in enumerate(inventory):
        usual[place] = known.get(term, usual[place])
    index = {term: place for place, term in enumerate(inventory)}
    return Space(index, usual, _vectors(inventory, material.embed))


def _around(material: Material) -> Counter[str]:
    """In how many passages each word stands."""
    counts: Counter[str] = Counter()
    for text, _ in material.passages:
        counts.update({word for word in words(text) if word.isalpha()})
    return counts


def _vectors(inventory: Sequence[str], embed: Embed | None) -> Array | None:
    """Centred vectors of the words; phrases and marks have none."""
    import numpy as np

    if embed is None:
        return None
    places = [n for n, term in enumerate(inventory) if term.isalpha() and len(term) > 1]
    found = np.asarray(embed([inventory[place] for place in places]), dtype=np.float64)
    vectors = np.zeros((len(inventory), found.shape[1]))
    vectors[places] = found - found.mean(axis=0)
    return vectors


# --- learning


@dataclass(frozen=True)
class _Both:
    """The model of the classifier, and that of the keywords, which is its distillate."""

    whole: Linear
    few: Linear


def _learned(stock: _Stock, settings: Settings, chosen: Sequence[int]) -> _Both:
    import numpy as np
    from scipy.sparse import vstack

    space, size = stock.space, len(stock.names)
    texts = [stock.whole[n] for n in chosen] + [stock.bare[n] for n in chosen]
    labels = [stock.labels[n] for n in chosen] * 2 + stock.extra_labels
    own = [stock.shares[n] for n in chosen] * 2
    shares = np.array(own + [_GLOSSARY] * len(stock.extra))
    rows = space.matrix([*texts, *stock.extra])
    model = linear(space, rows, labels, shares, size)
    every = vstack([rows, space.matrix(stock.loose)]).tocsr() if stock.loose else rows
    weighed = np.concatenate([shares, np.full(len(stock.loose), _PASSAGE)])
    wanted = softmax(model.scores(every))
    wanted[: len(labels)] /= 2
    wanted[np.arange(len(labels)), labels] += 0.5
    few = distilled(model, cut(model, every, weighed, settings.keywords), every, wanted, weighed)
    kept = cut(model, every, weighed, settings.weights)
    return _Both(replace(model, weights=np.where(kept, model.weights, 0.0)), few)


@dataclass(frozen=True)
class _HeldOut:
    """Scores of validation questions by models that were fitted without them, and their labels."""

    whole: Array
    few: Array
    labels: list[int]


def _held_out(stock: _Stock, settings: Settings, say: Notify) -> _HeldOut | None:
    import numpy as np

    rows = stock.material.rows
    folds = _folds(rows)
    if sum(map(len, folds)) < LEAST:
        return None
    few: list[Array] = []
    whole: list[Array] = []
    labels: list[int] = []
    for number, fold in enumerate(folds, 1):
        say(f"fold {number} of {FOLDS}")
        away = set(fold)
        both = _learned(stock, settings, [n for n in range(len(rows)) if n not in away])
        for side in (stock.whole, stock.bare):
            matrix = stock.space.matrix([side[n] for n in fold])
            whole.append(both.whole.scores(matrix))
            few.append(both.few.scores(matrix))
            labels += [stock.labels[n] for n in fold]
    return _HeldOut(np.vstack(whole), np.vstack(few), labels)


def _folds(rows: Sequence[Labelled]) -> list[list[int]]:
    """Validation rows in folds by their content; copies of a question share a fold."""
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    for number, row in enumerate(rows):
        if row.split == "validation":
            folds[_rank(row.text)[0] % FOLDS].append(number)
    return folds


# --- thresholds, and the files


def _assembled(
    stock: _Stock, settings: Settings, both: _Both, held_out: _HeldOut | None
) -> Keywords:
    calibration, whole_temperature, report = _calibrated(stock, settings, held_out)
    domains = _domains(stock, both.few)
    content = _classifier(stock, both.whole, whole_temperature) if settings.weights else b""
    rows = stock.material.rows
    fitted = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "questions": len(rows),
        "tasks": sorted({row.task for row in rows}),
        "glossary": len(stock.extra),
        "passages": len(stock.material.passages),
        "material": digest(stock.material),
        **stock.material.note,
        **report,
    }
    return Keywords(domains, calibration, fitted, content)


def _domains(stock: _Stock, few: Linear) -> dict[str, DomainTerms]:
    """Weights of two decimals; what rounds to nothing is left out."""
    raw = few.raw(stock.space).round(2)
    inventory = list(stock.space.index)
    return {
        name: DomainTerms(
            bias=round(float(few.bias[number]), 3),
            terms={inventory[n]: float(raw[n, number]) for n in raw[:, number].nonzero()[0]},
        )
        for number, name in enumerate(stock.names)
    }


def _classifier(stock: _Stock, whole: Linear, temperature: float) -> bytes:
    raw = whole.raw(stock.space)
    kept = (raw != 0).any(axis=1).nonzero()[0]
    inventory = list(stock.space.index)
    return packed(stock.names, [inventory[n] for n in kept], raw[kept], whole.bias, temperature)


def _calibrated(
    stock: _Stock, settings: Settings, held_out: _HeldOut | None
) -> tuple[Calibration, float, dict[str, Any]]:
    if held_out is None:
        return Calibration(), 1.0, {}
    few, whole = (best_temperature(s, held_out.labels) for s in (held_out.few, held_out.whole))
    targets = [n for n, name in enumerate(stock.names) if _is_target(name, settings.targets)]
    labels = [label if label in targets else -1 for label in held_out.labels]
    from ensemble.ladder import choose

    sure, threshold, right = choose(
        softmax(held_out.few / few), softmax(held_out.whole / whole), labels, targets,
        ladder=settings.weights > 0,
    )  # fmt: skip
    report = {"validation": len(labels), "accuracy": round(right, 4)}
    return Calibration(few, threshold, sure), whole, report


def _is_target(name: str, targets: Sequence[str] | None) -> bool:
    return targets is None or name in targets
