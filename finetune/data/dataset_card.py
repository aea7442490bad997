"""Dataset card: counts, licences and sources of a data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from domainlift.files import text_sha256
from finetune.data.cleaning import prompt_text
from finetune.data.rows import Row

Splits = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class FilterCounts:
    """Counts of removed rows: by reason, as copies, as questions of a benchmark.

    `beyond_size` were good, but more than were asked for.
    """

    benchmark: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    exact: int = 0
    near: int = 0
    leaked: int = 0
    beyond_size: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Removed rows by reason; zeros are included for the filters that always run."""
        return {
            **dict(sorted(self.dropped.items())),
            "exact copies": self.exact,
            "near copies": self.near,
            "questions of a benchmark": self.leaked,
            "beyond the size": self.beyond_size,
        }

    @property
    def summary(self) -> str:
        """The counts in one line, without zeros."""
        parts = (f"{reason} {count}" for reason, count in self.counts.items() if count)
        return ", ".join(parts) or "nothing"


def card_text(
    domain: str,
    seed: int,
    splits: Splits,
    files: Mapping[str, str],
    digest: str,
    sieve: FilterCounts,
) -> str:
    """The text of `card.json`."""
    card = {
        "domain": domain,
        "seed": seed,
        "sha256": digest,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "kinds": _by_kind(splits),
        "domains": _counted(row.domain for row in _every(splits)),
        "characters": {
            "asked": _lengths(len(prompt_text(row)) for row in _every(splits)),
            "answer": _lengths(len(row.completion) for row in _every(splits)),
        },
        "licences": _counted(row.licence if row.licence else "unknown" for row in _every(splits)),
        "sources": _counted(_collection(row.source) for row in _every(splits)),
        "taken out": sieve.counts,
        "benchmark questions compared": sieve.benchmark,
        "files": {name: text_sha256(text) for name, text in files.items()},
    }
    return json.dumps(card, ensure_ascii=False, indent=1) + "\n"


def _every(splits: Splits) -> list[Row]:
    return [row for rows in splits.values() for row in rows]


def _by_kind(splits: Splits) -> dict[str, dict[str, int]]:
    kinds = sorted({row.kind for row in _every(splits)})
    return {
        kind: {split: sum(row.kind == kind for row in rows) for split, rows in splits.items()}
        for kind in kinds
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    """The names with their counts, the most frequent first."""
    return dict(sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0])))


def _collection(source: str) -> str:
    """The file or task of a source, without the place in it."""
    return source.partition("#")[0] if source else "unknown"


def _lengths(lengths: Iterable[int]) -> dict[str, float]:
    ordered = sorted(lengths)
    return {
        "shortest": ordered[0],
        "median": median(ordered),
        "longest": ordered[-1],
        "all": sum(ordered),
    }
