"""Retrieval gate: which questions get passages and how many, calibrated on questions.

A gate has two thresholds: the cosine between the question and its best passage must be high
enough, and the base model must not be sure without passages. It also says how many passages come
in: further ones help a model that can tell them apart, and mislead one that cannot. All three are
chosen on validation questions of the domain, never on those that are reported.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed
from domainlift.files import write_json
from domainlift.stats.paired import sign_test

#: How unlikely the gains must be as luck; see `sign_test`.
LEVEL = 0.05
_STEPS = 6
NEVER = math.inf
_FORMER_KEYS = {"let_in": "n_opened"}


@dataclass(frozen=True)
class CalibrationSample:
    """One validation question, asked without and with passages.

    `score` is the cosine of the best passage, `confidence` the base model's probability of the
    option that it chose, among the options.
    """

    score: float
    confidence: float
    base: bool
    helped: bool


@dataclass(frozen=True)
class Gate:
    """Passages come in where the score is at least `score` and the confidence at most `confidence`.

    At most `k` come in; None leaves their number to the budget. The other fields are its result on
    the `n` validation questions: for how many it opened, how many answers turned right and wrong
    by that, and the p-value of the sign test on those. `basis` says what it was calibrated on: the
    validation or train split, questions made of the documents, or retrieval alone, which is none.
    """

    score: float
    confidence: float = 1.0
    k: int | None = None
    n: int = 0
    n_opened: int = 0
    gains: int = 0
    losses: int = 0
    p: float = 1.0
    basis: str = ""

    def opens(self, score: float | None, confidence: float | None) -> bool:
        """Whether a question gets its passages; a model without confidence counts as unsure."""
        sure = confidence is not None and confidence > self.confidence
        return score is not None and score >= self.score and not sure

    def as_json(self) -> dict[str, Any]:
        """The gate for JSON, which has no infinity: a `score` of None with `closed` or open."""
        score = self.score if math.isfinite(self.score) else None
        return {**asdict(self), "score": score, "closed": self.closed}

    def __repr__(self) -> str:
        # Digests of treatments contain this text: a renamed field must not change them.
        evidence = f"let_in={self.n_opened}, gains={self.gains}, losses={self.losses}, p={self.p}"
        use = f"score={self.score}, confidence={self.confidence}, k={self.k}"
        return f"Gate({use}, n={self.n}, {evidence})"

    @property
    def closed(self) -> bool:
        """Whether it never opens."""
        return self.score == NEVER


VALIDATION, TRAIN, DOCUMENTS, RETRIEVAL = "validation", "train", "documents", "retrieval"
#: The fewest questions that calibrate a gate: fewer hardly ever show that passages help.
FEWEST = 12
OPEN = Gate(-math.inf)
SHUT = Gate(NEVER)


def calibrate(trials: Mapping[int, Sequence[CalibrationSample]]) -> tuple[Gate, list[Gate]]:
    """The gate with the largest net gain, and every gate that was tried.

    `trials` holds the same questions by the number of passages that they were asked with. A gate
    counts only if its gains are more than luck: the exact one-sided sign test over the questions
    that it turns has p < 0.05. So harm cannot be what it does, and a domain in which passages are
    not shown to help stays shut. Of equal ones the gate that opens for fewest questions, with
    fewest passages, is taken. Choosing the best of many makes p too small by itself; the figure to
    report is that of the test questions.
    """
    tried = [gate for k, samples in sorted(trials.items()) for gate in _all_tried(samples, k)]
    proven = [gate for gate in tried if gate.p < LEVEL]
    if not proven:
        return Gate(NEVER, n=max(map(len, trials.values()), default=0)), tried
    return max(proven, key=lambda g: (g.gains - g.losses, -g.n_opened, -(g.k or 0))), tried


def store_gate(folder: Path, model: str, gate: Gate, tried: Sequence[Gate]) -> Path:
    """Write the gate of one answering model, and the curve it was chosen from, beside an index."""
    name = hashlib.sha256(model.encode()).hexdigest()[:12]
    path = folder / "gates" / f"{name}.json"
    curve = [each.as_json() for each in tried]
    write_json(path, {"model": model, "gate": gate.as_json(), "tried": curve})
    return path


def stored_gates(folder: Path) -> dict[str, dict[str, Any]]:
    """The gates that were calibrated on a generation, by the digest of the answering model."""
    gates = {}
    for path in sorted((folder / "gates").glob("*.json")):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            gate = {_FORMER_KEYS.get(key, key): value for key, value in stored["gate"].items()}
            gates[str(stored["model"])] = gate
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Malformed(path, "not a stored gate", hint="delete the file") from error
    return gates


def _all_tried(trials: Sequence[CalibrationSample], k: int) -> list[Gate]:
    scores = _steps([trial.score for trial in trials], -math.inf)
    sureness = _steps([trial.confidence for trial in trials], 1.0)
    return [_tried(trials, Gate(s, c, k)) for s, c in product(scores, sureness)]


def _tried(trials: Sequence[CalibrationSample], gate: Gate) -> Gate:
    inside = [t for t in trials if gate.opens(t.score, t.confidence)]
    gains = sum(t.helped and not t.base for t in inside)
    losses = sum(t.base and not t.helped for t in inside)
    p = sign_test(gains, losses)
    return replace(gate, n=len(trials), n_opened=len(inside), gains=gains, losses=losses, p=p)


def _steps(values: Sequence[float], open_end: float) -> list[float]:
    """Thresholds worth trying: everything, and the values at equal shares of the questions."""
    ordered = sorted(values)
    shares = [ordered[len(ordered) * k // _STEPS] for k in range(1, _STEPS)] if ordered else []
    return sorted({open_end, *shares})
