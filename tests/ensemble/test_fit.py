from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from domainlift.errors import Misuse
from domainlift.types import Split
from ensemble.fit.evaluate import route_all
from ensemble.fit.fit import FitSettings, Labelled, RouterData, fit_router
from ensemble.fit.linear_model import softmax, temperature
from ensemble.fit.thresholds import tune_thresholds
from ensemble.fit.training_data import router_data_digest
from ensemble.router.classifier import classifier_from_bytes
from ensemble.router.keywords import as_text
from ensemble.router.router import Router

pytest.importorskip("sklearn")

NOUNS = {
    "biology": ["cell", "gene", "leaf", "enzyme", "tissue", "muscle", "species", "organ"],
    "history": ["war", "empire", "king", "treaty", "battle", "colony", "dynasty", "queen"],
    "law": ["court", "judge", "statute", "jury", "contract", "appeal", "felony", "deed"],
}
FRAMES = [
    "What does the {0} do to the {1}?",
    "Which {0} has a {1}?",
    "Is every {0} a {1} of {2}?",
    "How is a {0} made of {2}?",
    "Why did the {1} follow the {0} here?",
]


def rows(frames: Sequence[str], split: Split) -> list[Labelled]:
    return [
        Labelled(
            frame.format(noun, nouns[n - 1], nouns[n - 2]),
            (nouns[n - 3], "none"),
            name,
            split,
            name,
        )
        for frame in frames
        for name, nouns in NOUNS.items()
        for n, noun in enumerate(nouns)
    ]


MATERIAL = RouterData(
    [*rows(FRAMES[:2], "train"), *rows(FRAMES[2:4], "validation")],
    {"biology": ["photosynthesis"], "history": ["stone age"]},
)
HELD_OUT = rows(FRAMES[4:], "test")


@pytest.fixture(scope="module")
def keywords() -> Any:
    return fit_router(MATERIAL, FitSettings(60, 200))


def test_what_was_learned_routes_new_questions(keywords: Any) -> None:
    quality = route_all(Router(keywords), HELD_OUT)
    assert quality.accuracy >= 0.95
    assert keywords.fitted["accuracy"] >= 0.95
    assert keywords.fitted["validation"] == 2 * len(MATERIAL.rows) / 2


def test_other_fields_go_to_the_base_model(keywords: Any) -> None:
    quality = route_all(Router(keywords, ("biology",)), HELD_OUT)
    assert quality.accuracy >= 0.95
    assert quality.domains["other"].n == 2 * quality.domains["biology"].n


def test_no_more_keywords_are_kept_than_wanted(keywords: Any) -> None:
    assert 10 < sum(len(domain.terms) for domain in keywords.domains.values()) <= 60
    held = classifier_from_bytes(keywords.classifier)
    assert 0 < (held.weights != 0).sum() <= 200
    assert fit_router(MATERIAL, FitSettings(60, 0)).classifier == b""


def test_words_of_the_glossary_are_known(keywords: Any) -> None:
    router = Router(fit_router(MATERIAL))
    assert router.route("photosynthesis").domain == "biology"
    assert router.route("the stone age").domain == "history"


def test_the_same_material_gives_the_same_bytes(keywords: Any) -> None:
    again = fit_router(MATERIAL, FitSettings(60, 200))
    assert as_text(again) == as_text(keywords)
    assert again.classifier == keywords.classifier


def test_the_digest_is_of_all_that_is_learned_from() -> None:
    row = MATERIAL.rows[0]
    changed = [
        replace(row, **more)
        for more in ({"text": "x"}, {"options": ()}, {"domain": "law"}, {"split": "validation"})
    ]
    changed.append(replace(row, task="another"))  # what a row counts depends on its task
    assert len({router_data_digest(RouterData([each])) for each in (row, *changed)}) == 6


def test_vectors_give_weights_to_words_that_no_question_holds() -> None:
    near = {"cell": 0, "gene": 0, "leaf": 0, "membrane": 0, "war": 1, "king": 1, "siege": 1}

    def embed(texts: Sequence[str]) -> Any:
        return np.array([np.eye(3)[near.get(text, 2)] for text in texts])

    passages = [("the membrane here", "biology"), ("the siege here", "history")] * 20
    blind = Router(fit_router(RouterData(MATERIAL.rows, {}, passages)), ("biology", "history"))
    seeing = Router(
        fit_router(RouterData(MATERIAL.rows, {}, passages, embed)), ("biology", "history")
    )
    assert blind.route("membrane").domain is None
    assert seeing.route("membrane").domain == "biology"
    assert seeing.route("siege").domain == "history"


def test_questions_of_the_test_split_are_refused() -> None:
    with pytest.raises(Misuse, match="never fitted to"):
        fit_router(RouterData([*MATERIAL.rows, HELD_OUT[0]]))


@pytest.mark.parametrize("held", [[], rows(FRAMES, "train")[:8]])
def test_one_domain_is_too_few(held: list[Labelled]) -> None:
    with pytest.raises(Misuse, match="at least two domains"):
        fit_router(RouterData(held))


def test_without_validation_questions_nothing_is_calibrated() -> None:
    keywords = fit_router(RouterData(rows(FRAMES[:2], "train")))
    assert keywords.calibration.threshold == 0.5
    assert "accuracy" not in keywords.fitted


# --- calibration


def test_the_temperature_undoes_a_factor() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4_000, 3)) * 1.5
    labels = [int(rng.choice(3, p=row)) for row in softmax(scores)]
    assert temperature(scores, labels) == pytest.approx(1.0, abs=0.08)
    assert temperature(scores * 3, labels) == pytest.approx(3.0, abs=0.25)


def test_the_threshold_keeps_out_what_is_more_often_wrong() -> None:
    few = np.array([[p, 1 - p] for p in [0.55] * 30 + [0.95] * 70])
    labels = [0] * 10 + [1] * 20 + [0] * 70
    sure, threshold, right = tune_thresholds(few, few, labels, (0, 1), ladder=True)
    assert 0.55 < threshold <= 0.95
    assert right == 0.7
    assert sure == 0.6  # both agree, so the keywords may decide everything


def test_the_keywords_decide_no_more_than_they_can() -> None:
    few = np.array([[0.65, 0.35]] * 50 + [[0.97, 0.03]] * 50)
    whole = np.array([[0.1, 0.9]] * 50 + [[0.97, 0.03]] * 50)
    sure, _, right = tune_thresholds(few, whole, [1] * 50 + [0] * 50, (0, 1), ladder=True)
    assert (sure, right) == (0.7, 1.0)
