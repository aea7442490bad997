"""Diagnosis of the base model: a word per domain from its scores."""

from __future__ import annotations

from benchmarks.results.domain_scores import EvalResult
from benchmarks.results.improve_result import Diagnosis, RetestNoise
from domainlift.stats.intervals import Verdict

FAULTY = "faulty"


def diagnose(profile: EvalResult, noise: RetestNoise) -> Diagnosis:
    """Say of each domain what its score says; a fault of the harness is no weakness."""
    words = {}
    for domain, score in profile.domains.items():
        unread = score.unparsed + score.truncated + score.errors
        if score.below_chance or not score.n or unread > score.n // 10:
            words[domain] = FAULTY
        else:
            words[domain] = (score.verdict if score.verdict else Verdict.UNCERTAIN).value
    return Diagnosis(words, noise, profile)
