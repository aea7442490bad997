"""View of a comparison as JSON; `docs/compare.md` describes the object."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from benchmarks.results.comparison import Comparison, DomainChange
from benchmarks.results.flips import FlipKind
from reports.format import verdict_text

#: Grows with any change that a reader of the old object would trip over.
SCHEMA = 1


def as_json(comparison: Comparison, show: Collection[FlipKind] = tuple(FlipKind)) -> dict[str, Any]:
    """The object that `bench compare --json` prints; `show` chooses among the kept questions."""
    routes = comparison.routes
    return {
        "schema": SCHEMA,
        "baseline": comparison.baseline.run,
        "candidate": comparison.candidate.run,
        "verdict": str(verdict_text(comparison)),
        "overall": _row(comparison.overall),
        "domains": {name: _row(row) for name, row in comparison.domains.items()},
        "regressed": comparison.regressed,
        "warnings": list(comparison.warnings),
        "notes": list(comparison.notes),
        "routes": {
            "n": routes.n,
            "covered": routes.covered,
            "right": routes.right,
            "confusion": [
                {"domain": domain, "route": route, "n": n}
                for (domain, route), n in sorted(routes.confusion.items())
            ],
            "decided_by": dict(routes.decided_by),
        },
        "treated": [
            {"domain": domain, "treatment": done, "n": n}
            for (domain, done), n in sorted(routes.treated.items())
        ],
        "runs": {
            "baseline": asdict(comparison.baseline),
            "candidate": asdict(comparison.candidate),
        },
        "flips": [asdict(flip) for flip in comparison.flips if flip.kind in show],
    }


def _row(row: DomainChange) -> dict[str, Any]:
    before, after = map(asdict, row.sides)
    for side in (before, after):
        side["let_in"] = side.pop("n_with_passages")
    clean = row.clean.as_json() if row.clean is not None else None
    return {
        **row.as_json(),
        "p_holm": row.p_holm,
        "detectable": None if math.isinf(row.detectable) else row.detectable,
        "word": row.word.value,
        "metrics": {name: asdict(change) for name, change in row.metrics.items()},
        "kinds": {kind.value: row.kinds[kind] for kind in FlipKind},
        "sides": {"baseline": before, "candidate": after},
        "without_leaked": clean and {key: clean[key] for key in ("n", "delta", "interval", "p")},
    }
