from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from domainlift.errors import Misuse
from domainlift.sampling import hash_order
from domainlift.types import Split
from ensemble.fit.evaluate import route_all
from ensemble.fit.fit import FOLDS, FitSettings, Labelled, RouterData, fit_router
from ensemble.fit.linear_model import softmax, temperature
from ensemble.fit.thresholds import tune_thresholds
from ensemble.fit.training_data import router_data_digest, telling_terms
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


def test_documents_alone_make_keywords_of_a_domain() -> None:
    told = " ".join(
        f"{who} of the valley will {what} every old larch that they find there."
        for who in ("Foresters", "Owners", "Neighbours", "Carpenters")
        for what in ("fell", "measure", "protect", "sell", "plant")
    )
    data = RouterData(MATERIAL.rows, MATERIAL.glossary, [(told, "forestry")])
    assert "forestry" in data.domains
    route = Router(fit_router(data)).route("When may foresters fell a larch?")
    assert route.domain == "forestry"
    assert "larch" in dict(route.matched)


def test_what_is_frequent_in_one_domain_and_rare_elsewhere_tells_of_it() -> None:
    told = [(f"The {word} is near the river {n}.", name) for n in range(9)
            for word, name in (("larch", "forestry"), ("yarn", "weaving"))]  # fmt: skip
    assert telling_terms(told) == [("larch", "forestry"), ("yarn", "weaving")]
    assert telling_terms(told[::2]) == []


def test_no_function_word_and_no_word_of_exams_is_learned() -> None:
    asked = [
        replace(r, text=f"Where was she with the above passage? {r.text}", split="validation")
        if r.domain == "history"
        else r
        for r in MATERIAL.rows
    ]
    keywords = fit_router(RouterData(asked, {"history": ["war of the roses", "of"]}))
    learned = {term for domain in keywords.domains.values() for term in domain.terms}
    learned |= set(classifier_from_bytes(keywords.classifier).terms)
    assert "war of the" not in learned
    words = {word for term in learned for word in term.split(" ")}
    assert not words & {"where", "she", "with", "the", "above", "passage", "does", "why"}
    bare = RouterData(rows(FRAMES[2:4], "validation"))
    assert Router(fit_router(bare)).route("Where was she, and who were they with?").domain is None


def test_what_is_calibrated_was_left_out_with_its_source() -> None:
    often = [replace(r, text=f"{r.text} {n}") for r in rows(FRAMES, "train") for n in "abcd"]
    own = [replace(r, task=f"own:{r.domain}") for r in often if r.text[0] == "W"]
    elsewhere = [replace(r, task=f"other:{r.domain}") for r in often if r.text[0] != "W"]
    found = fit_router(RouterData([*own, *elsewhere]))
    assert found.fitted["validation"] > 2 * (len(own) + len(elsewhere))  # and a quarter again
    turned = [replace(r, domain="law" if r.domain != "law" else "history") for r in elsewhere]
    misled = fit_router(RouterData([*own, *turned]))
    assert misled.fitted["accuracy"] < 0.5 < found.fitted["accuracy"]


def test_a_domain_that_one_source_alone_knows_is_not_asked_for_without_it() -> None:
    by_domain = [replace(row, task=f"{row.domain}.jsonl") for row in MATERIAL.rows]
    found = fit_router(RouterData(by_domain))
    validation = sum(row.split == "validation" for row in by_domain)
    assert found.fitted["validation"] == 2 * validation  # folds, as from one source


def test_without_a_source_only_what_others_tell_of_is_asked() -> None:
    often = [replace(r, text=f"{r.text} {n}") for r in rows(FRAMES, "train") for n in "abcd"]
    own = [replace(r, task=f"own:{r.domain}") for r in often if r.text[0] == "W"]
    elsewhere = [
        replace(r, task="other:all") for r in often if r.text[0] != "W" and r.domain != "law"
    ]
    told = [r for r in own if r.domain != "law"]
    quarter = [r for r in (*own, *elsewhere) if hash_order(r.text)[0] % FOLDS == 0]
    found = fit_router(RouterData([*own, *elsewhere]))
    assert found.fitted["validation"] == 2 * len([*told, *elsewhere, *quarter])


def test_a_number_in_the_glossary_stands_for_no_other() -> None:
    router = Router(fit_router(RouterData(MATERIAL.rows, {"history": ["1066"], "law": ["404"]})))
    learned = router.keywords.domains["history"].terms
    assert "0" not in learned
    assert router.route("Is it 1066 then?").matched[0][0] == "1066"
    assert router.route("Is it 1067 then?").matched == ()


def test_questions_of_the_test_split_are_refused() -> None:
    with pytest.raises(Misuse, match="never fitted to"):
        fit_router(RouterData([*MATERIAL.rows, HELD_OUT[0]]))


@pytest.mark.parametrize("held", [[], rows(FRAMES, "train")[:8]])
def test_one_domain_is_too_few(held: list[Labelled]) -> None:
    with pytest.raises(Misuse, match="two domains"):
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
    for targets in ((0, 1, 2), (0, 1)):
        told = [label if label in targets else -1 for label in labels]
        assert temperature(scores, told, targets) == pytest.approx(1.0, abs=0.08)
        assert temperature(scores * 3, told, targets) == pytest.approx(3.0, abs=0.25)


def test_the_threshold_keeps_out_what_is_more_often_wrong() -> None:
    few = np.array([[p, 1 - p] for p in [0.55] * 30 + [0.95] * 70])
    labels = [0] * 10 + [1] * 20 + [0] * 70
    sure, thresholds, right = tune_thresholds(few, few, labels, (0, 1), (0, 1), ladder=True)
    assert 0.55 < thresholds[0] <= 0.95
    assert right == 0.7
    assert sure == 0.6  # both agree, so the keywords may decide everything


def test_the_keywords_decide_no_more_than_they_can() -> None:
    few = np.array([[0.65, 0.35]] * 50 + [[0.97, 0.03]] * 50)
    whole = np.array([[0.1, 0.9]] * 50 + [[0.97, 0.03]] * 50)
    sure, _, right = tune_thresholds(few, whole, [1] * 50 + [0] * 50, (0, 1), (0, 1), ladder=True)
    assert (sure, right) == (0.7, 1.0)
