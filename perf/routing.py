"""Routing on MMLU's test split: hand-written keywords, the shipped router, and TF-IDF beside them.

BENCH_DATA=FOLDER OMP_NUM_THREADS=1 python -m perf.routing
BENCH_DATA=FOLDER OMP_NUM_THREADS=1 python -m perf.routing --left-out

Nothing here is fitted to, or chosen on, test questions; copies of development and validation
questions among them are left out. TF-IDF with logistic regression learns from the same development
and validation questions as the shipped router, and from nothing else. With `--left-out`, routers
are fitted and calibrated without any question of one source, and asked that source's test
questions; of the questions from elsewhere that is the half on which nothing was chosen. Times are
those of the quickest of ten passes over 500 questions, one at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from domainlift.sampling import hash_order
from domainlift.text.normalise import without_copies
from ensemble.fit.evaluate import CountedRoutes, RouterMetrics, route_all
from ensemble.fit.fit import FitSettings, Labelled, RouterData, fit_router
from ensemble.router.decision import RouteDecision
from ensemble.router.keywords import SHIPPED, Keywords, hand_written, read_keywords
from ensemble.router.router import Router
from improve.labelled_questions import as_training, read_labelled
from improve.route import embed_examples, glossaries, labelled, passages, written_questions
from knowledge_bases.domains import Domain, load_domains
from perf.shapes import mirror
from rag.library import open_cached

TARGETS = ("biology", "history", "security", "mathematics", "philosophy")
ELSEWHERE = "routing/elsewhere.jsonl"
# Vectors are kept here from one run to the next.
EMBEDDED = Path("workspace")
# Source -> the beginnings of its tasks' names.
SOURCES: dict[str, tuple[str, ...]] = {
    "MMLU": ("mmlu",),
    "trivia": ("otqa",),
    "demo": ("own",),
    "PubMedQA, OpenBookQA": ("pubmedqa", "openbookqa"),
    "ARC, GSM8K": ("arc", "gsm8k"),
}
_TIMED, _PASSES = 500, 10
# Title -> the subjects of a family, by a part of their names.
FAMILIES = {
    "biology": ("anatomy", "biology", "genetics"),
    "history": ("history",),
    "security": ("computer_security",),
    "mathematics": ("algebra", "mathematics", "statistics"),
    "philosophy": ("fallacies", "moral", ":philosophy"),
    "medicine": ("clinical", "medicine", "aging", "nutrition", "virology"),
    "law": ("law", "jurisprudence"),
    "physics": ("astronomy", "physics", "electrical"),
    "chemistry": ("chemistry",),
    "computer science": ("computer_science", "machine_learning"),
    "economics": ("econom", "account", "business", "management", "marketing", "public_rel"),
    "politics": ("politics", "security_studies", "foreign_policy"),
    "psychology": ("psychology",),
    "society": ("sexuality", "sociology", "religions"),
    "general": ("facts", "geography", "miscellaneous"),
    "logic": ("formal_logic",),
}


class TfIdf:
    """TF-IDF of words and word pairs with logistic regression: the usual thing to do."""

    def __init__(self, rows: Sequence[Labelled], targets: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        self.targets = tuple(targets)
        texts = [_whole(row.text, row.options) for row in rows] + [row.text for row in rows]
        labels = [row.domain if row.domain in targets else "" for row in rows] * 2
        self._model: Any = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
            LogisticRegression(C=30, max_iter=300),
        )
        self._model.fit(texts, labels)

    def route(self, text: str, options: Sequence[str] = ()) -> RouteDecision:
        """The most probable class."""
        chances = self._model.predict_proba([_whole(text, options)])[0]
        best = chances.argmax()
        name = str(self._model.classes_[best])
        return RouteDecision(name or None, "classifier", probability=float(chances[best]))


class AnyHit:
    """The hand-written keywords as most would use them: the domain with the most hits."""

    def __init__(self, keywords: Keywords, targets: Sequence[str]) -> None:
        self.targets = tuple(targets)
        self._patterns = {
            name: re.compile(r"\b(?:" + "|".join(map(re.escape, domain.terms)) + r")s?\b")
            for name, domain in keywords.domains.items()
            if name in targets
        }

    def route(self, text: str, options: Sequence[str] = ()) -> RouteDecision:
        """The domain with the most hits, two at least, and more than any other."""
        whole = _whole(text, options).lower()
        hits = sorted((len(p.findall(whole)), name) for name, p in self._patterns.items())
        clear = hits[-1][0] >= 2 and hits[-1][0] > hits[-2][0]
        return RouteDecision(
            hits[-1][1] if clear else None, "keywords", probability=hits[-1][0] / 100
        )


def main() -> None:
    """Print three tables: five targets, all domains, families of subjects; or one, see below."""
    parser = argparse.ArgumentParser(description="routing on MMLU's test split")
    half = "learn from half of the test questions as well, and ask the other half"
    parser.add_argument("--half", action="store_true", help=half)
    away = "fit without each source in turn, and ask that"
    parser.add_argument("--left-out", action="store_true", help=away)
    parser.add_argument(
        "--embeddings", help="ask the examples of this model, too, of some questions"
    )
    chosen = parser.parse_args()
    asked_half = chosen.half
    known = {name: domain for name, domain in load_domains().items() if not domain.suite}
    tasks = [task for domain in known.values() for task in domain.tasks if task[:5] == "mmlu:"]
    learned, _ = labelled(tasks, known, mirror())
    asked, _ = labelled(tasks, known, mirror(), ("test",))
    rows = without_copies(asked, of=learned)
    print(f"{len(rows):,} test questions; {len(asked) - len(rows)} copies are left out\n")
    learned = without_copies(learned, of=rows)
    if chosen.left_out:
        _left_out(known, chosen.embeddings)
        return
    if asked_half:
        _table(*_halves(learned, rows, known), TARGETS)
        return
    shipped, hand = read_keywords(SHIPPED), hand_written(known)
    domains = tuple(sorted({row.domain for row in rows}))
    for targets in (TARGETS, domains):
        _table(_routers(shipped, hand, learned, targets), rows, targets)
    _families(Router(shipped, TARGETS), rows)


def _left_out(known: Mapping[str, Domain], model: str | None) -> None:
    """A table of each source, asked of a router that was fitted without it.

    With an embedding model, a fourth of the questions is asked.
    """
    data = mirror()
    tasks = [task for domain in known.values() for task in domain.tasks]
    elsewhere = read_labelled(data / ELSEWHERE, known)
    rows = [*labelled(tasks, known, data)[0], *as_training(elsewhere), *written_questions(known)]
    tested = without_copies(labelled(tasks, known, data, ("test",))[0], of=rows)
    tested += [row for row in elsewhere if hash_order(row.text)[0] % 2]
    told = passages(known, data)
    print("| left out | n | options | accuracy | calibration error | domain | n | recall | false |")
    print("|---|---|---|---|---|---|---|---|---|")
    for source, tasks_of in SOURCES.items():
        kept = [row for row in rows if not row.task.startswith(tasks_of)]
        material = RouterData(kept, glossaries(known), told)
        ask = (
            None
            if model is None
            else partial(
                embed_examples(material, model, EMBEDDED).ask,
                embed=open_cached(model, EMBEDDED).encode_queries,
            )
        )
        router = Router(fit_router(material, FitSettings(targets=TARGETS)), TARGETS, ask)
        asked = [row for row in tested if row.task.startswith(tasks_of)]
        asked = asked if model is None else [r for r in asked if hash_order(r.text)[1] % 4 == 0]
        for options in (True, False):
            _print_left_out(source, route_all(router, asked, options=options), options)


def _print_left_out(source: str, quality: RouterMetrics, options: bool) -> None:
    low, high = quality.interval
    error = quality.calibration_interval
    for name in TARGETS:
        domain = quality.domains[name]
        held = domain.as_json()
        cells = [
            "-" if held[key] is None else f"{held[key]:.3f} {held[f'{key}_interval']}"
            for key in ("recall", "false_sends")
        ]
        print(
            f"| {source} | {quality.n} | {'with' if options else 'without'} | "
            f"{quality.accuracy:.3f} [{low:.3f}, {high:.3f}] | {quality.calibration_error:.3f} "
            f"[{error.low:.3f}, {error.high:.3f}] | {name} | {domain.n} | {' | '.join(cells)} |",
            flush=True,
        )


def _routers(
    shipped: Keywords, hand: Keywords, learned: Sequence[Labelled], targets: Sequence[str]
) -> Mapping[str, CountedRoutes]:
    return {
        "hand keywords, 2 hits": AnyHit(hand, targets),
        "shipped, keywords alone": Router(replace(shipped, classifier=b""), targets),
        "shipped": Router(shipped, targets),
        "TF-IDF + LR": TfIdf(learned, targets),
    }


def _halves(
    learned: Sequence[Labelled], rows: Sequence[Labelled], known: Mapping[str, Domain]
) -> tuple[Mapping[str, CountedRoutes], Sequence[Labelled]]:
    """Routers that learned from half of the rows too, and the other half.

    It says what more questions would bring, and is no way to make a router that is used: nothing
    would be left to measure it on.
    """
    first, second = ([row for row in rows if _even(row) is even] for even in (True, False))
    more = [*learned, *(replace(row, split="train") for row in first)]
    fitted = fit_router(RouterData(more, glossaries(known)))
    return {"fitted": Router(fitted, TARGETS), "TF-IDF + LR": TfIdf(more, TARGETS)}, second


def _even(row: Labelled) -> bool:
    return hashlib.sha256(_whole(row.text, row.options).encode()).digest()[0] % 2 == 0


def _table(
    routers: Mapping[str, CountedRoutes], rows: Sequence[Labelled], targets: Sequence[str]
) -> None:
    sizes = {"hand keywords, 2 hits": 0, "shipped, keywords alone": SHIPPED.stat().st_size}
    sizes["shipped"] = SHIPPED.stat().st_size + len(read_keywords(SHIPPED).classifier)
    other = " + other" if len(targets) == len(TARGETS) else ""
    print(f"{len(targets)} domains{other}:\n")
    print("| router | options | accuracy | 95 % interval | coverage at 95 % | µs | kB |")
    print("|---|---|---|---|---|---|---|")
    found: dict[str, RouterMetrics] = {}
    for name, router in routers.items():
        for options in (True, False):
            quality = _timed(router, rows, options)
            if options:
                found[name] = quality
            low, high = quality.interval
            size = f"{sizes[name] / 1000:.0f}" if sizes.get(name) else ""
            print(
                f"| {name} | {'with' if options else 'without'} | {quality.accuracy:.3f} | "
                f"[{low:.3f}, {high:.3f}] | {quality.coverage_at_95:.3f} | "
                f"{quality.microseconds:.0f} | {size} |",
                flush=True,
            )
    print("\n| domain | n | " + " | ".join(f"{name}: P / R" for name in found) + " |")
    print("|---|---|" + "---|" * len(found))
    for name, domain in next(iter(found.values())).domains.items():
        cells = (quality.domains.get(name) for quality in found.values())
        print(f"| {name} | {domain.n} | " + " | ".join(map(_shares, cells)) + " |")
    print()


def _families(router: Router, rows: Sequence[Labelled]) -> None:
    print("| family | n | with options | 95 % interval | without | 95 % interval |")
    print("|---|---|---|---|---|---|")
    left = list(rows)
    for name, parts in FAMILIES.items():
        mine = [row for row in left if any(part in row.task for part in parts)]
        left = [row for row in left if not any(part in row.task for part in parts)]
        cells = []
        for options in (True, False):
            quality = route_all(router, mine, options=options)
            low, high = quality.interval
            cells += [f"{quality.accuracy:.3f}", f"[{low:.3f}, {high:.3f}]"]
        print(f"| {name} | {len(mine)} | {' | '.join(cells)} |")


def _timed(router: CountedRoutes, rows: Sequence[Labelled], options: bool) -> RouterMetrics:
    """The quality over all rows; the time is that of the quickest pass over some of them."""
    some = rows[:: max(1, len(rows) // _TIMED)]
    passes = [route_all(router, some, options=options).microseconds for _ in range(_PASSES)]
    return replace(route_all(router, rows, options=options), microseconds=min(passes))


def _shares(domain: Any) -> str:
    if domain is None:
        return "-"
    shares = (domain.precision, domain.recall)
    return " / ".join("-" if share is None else f"{share:.2f}" for share in shares)


def _whole(text: str, options: Sequence[str]) -> str:
    return "\n".join((text, *options))


if __name__ == "__main__":
    main()
