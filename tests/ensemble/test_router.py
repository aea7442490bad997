from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import Malformed, NoSuch
from ensemble.router.classifier import classifier_from_bytes
from ensemble.router.examples import Examples, SecondOpinion, read_examples, write_examples
from ensemble.router.keywords import (
    SHIPPED,
    DomainTerms,
    Keywords,
    RouterCalibration,
    read_keywords,
)
from ensemble.router.router import Router
from ensemble.router.stop_words import tells
from ensemble.router.tokenize import Vocabulary, term_of, terms

TARGETS = ("biology", "history", "mathematics", "philosophy", "security")
TRAPS = yaml.safe_load(Path(__file__).with_name("traps.yaml").read_text(encoding="utf-8"))["traps"]
# The share of its traps that each must get right. 0.5 would be a coin.
FLOORS = {
    "base": 0.93,
    "biology": 0.6,
    "history": 0.75,
    "mathematics": 0.75,
    "philosophy": 0.85,
    "security": 0.6,
}


@pytest.fixture(scope="module")
def shipped() -> Router:
    return Router(read_keywords(SHIPPED), TARGETS)


def made(**kinds: float) -> Keywords:
    return Keywords(
        {
            "biology": DomainTerms(0.0, {"cell": 8.0, "gene": 8.0, "cell phone": -20.0}),
            "history": DomainTerms(0.0, {"war": 8.0, "roman empire": 9.0}, {r"\b\d+ BC\b": 9.0}),
            "law": DomainTerms(0.0, {"court": 9.0}),
        },
        RouterCalibration(**kinds),
    )


# --- traps


def test_there_are_traps_enough() -> None:
    count = Counter(trap["to"] for trap in TRAPS)
    assert len(TRAPS) >= 200
    assert len({trap["text"] for trap in TRAPS}) == len(TRAPS)
    assert count.keys() == FLOORS.keys()
    assert min(count.values()) >= 8


@pytest.mark.parametrize("domain", FLOORS)
def test_traps_are_seen_through(shipped: Router, domain: str) -> None:
    mine = [trap["text"] for trap in TRAPS if trap["to"] == domain]
    sent = {text: shipped.route(text).domain or "base" for text in mine}
    wrong = {text: where for text, where in sent.items() if where != domain}
    assert len(wrong) <= (1 - FLOORS[domain]) * len(mine), wrong


def test_nothing_is_sent_to_a_target_it_does_not_belong_to_but_rarely(shipped: Router) -> None:
    sent = [(trap["to"], shipped.route(trap["text"]).domain) for trap in TRAPS]
    harmful = sum(where is not None and where != to for to, where in sent)
    assert harmful / len(TRAPS) <= 0.06


# --- decisions


@pytest.mark.parametrize(
    ("text", "domain", "stage"),
    [
        ("Which gene is in the cell?", "biology", "keywords"),
        ("My cell phone is in the cell.", None, "base"),
        ("Who fought the war of the Roman Empire?", "history", "keywords"),
        ("It happened in 44 BC.", "history", "keywords"),
        ("The court decided about the war.", "law", "keywords"),
        ("Nothing here is known.", None, "base"),
    ],
)
def test_keywords_decide(text: str, domain: str | None, stage: str) -> None:
    route = Router(made()).route(text)
    assert (route.domain, route.decided_by) == (domain, stage)


def test_what_belongs_to_no_target_goes_to_the_base_model() -> None:
    router = Router(made(), ("biology", "history"))
    route = router.route("The court and the court of appeal")
    assert (route.domain, route.decided_by) == (None, "base")
    assert "law" in route.reason
    assert route.matched[0][0] == "court"


def test_a_decision_explains_itself() -> None:
    route = Router(made()).route("Does the war change a gene of the Roman Empire?")
    assert route.domain == "history"
    assert [term for term, _ in route.matched] == ["roman empire", "war"]
    assert route.runner_up == "biology"
    assert 0 < route.margin < route.probability < 1
    assert "roman empire" in route.reason
    assert [term for term, _ in route.runner_up_matched] == ["gene"]


def test_evidence_for_a_target_is_shown_where_the_base_model_won() -> None:
    router = Router(made(), ("biology", "history"))
    lost = router.route("The court of the war and another court of appeal, a gene")
    assert lost.domain is None
    assert lost.runner_up in ("biology", "history")
    shown = dict(lost.runner_up_matched)
    assert max(shown, key=lambda term: shown[term]) in ("war", "gene")
    held = Router(made(threshold=0.999)).route("a war of words")
    assert [term for term, _ in held.runner_up_matched] == ["war"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What happened in 1066?", ["1066"]),
        ("What happened in 1067?", []),
        ("Is web 2.0 dead?", ["web 2 0"]),
        ("Is web 3.0 dead?", []),
        ("Are 7 enough?", []),
    ],
)
def test_keywords_that_are_numbers_match_no_other_number(text: str, found: list[str]) -> None:
    terms = {term_of(keyword): 6.0 for keyword in ("1066", "Web 2.0", "802.11")}
    route = Router(Keywords({"history": DomainTerms(0.0, terms)})).route(text)
    assert [term for term, _ in route.matched] == found


def test_a_zero_in_a_keyword_file_is_every_number_still() -> None:
    route = Router(Keywords({"mathematics": DomainTerms(0.0, {"0": 6.0})})).route("Is it 12?")
    assert route.matched[0][0] == "0"


def test_phishing_speaks_for_security_and_function_words_for_nothing(shipped: Router) -> None:
    route = shipped.route("How can staff be taught to notice phishing?")
    shown = dict(route.matched) if route.domain == "security" else dict(route.runner_up_matched)
    assert max(shown, key=lambda term: shown[term]) == "phishing"
    assert "security" in (route.domain, route.runner_up)
    lost = shipped.route("Where was she, and who were they with?")
    assert lost.domain is None
    assert lost.matched == ()


def test_options_count_too() -> None:
    router = Router(made())
    assert router.route("Which is it?").domain is None
    assert router.route("Which is it?", ("a gene", "a cell")).domain == "biology"


def test_a_named_domain_overrides_everything() -> None:
    route = Router(made()).route("Which gene?", domain="law")
    assert (route.domain, route.decided_by, route.probability) == ("law", "domain", 1.0)
    with pytest.raises(NoSuch, match="no domain `lore`"):
        Router(made()).route("Which gene?", domain="lore")


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(NoSuch) as caught:
        Router(made(), ("biologie",))
    assert caught.value.hint is not None
    assert "biology" in caught.value.hint


def test_a_threshold_holds_back_and_says_so() -> None:
    low, high = (Router(made(threshold=t)).route("a war of words") for t in (0.5, 0.999))
    assert low.domain == "history"
    assert (high.domain, high.runner_up) == (None, "history")
    assert high.margin < 0
    assert "below 1.00" in high.reason


def test_a_question_without_known_words_is_no_sure_thing() -> None:
    biased = Keywords(
        {
            name: DomainTerms(bias, {word: 1.0})
            for name, bias, word in (("a", 0.0, "x"), ("b", 1.0, "y"), ("c", 2.0, "z"))
        }
    )
    text = "Nothing here is known"
    all_ = Router(biased).route(text)
    assert (all_.domain, all_.probability, all_.runner_up) == (None, 0.0, "c")
    assert all_.margin == pytest.approx(-0.665, abs=1e-3)  # e² / (1 + e + e²)
    some = Router(biased, ("a", "b")).route(text)
    assert some.probability == pytest.approx(0.665, abs=1e-3)
    assert (some.runner_up, some.margin > 0) == ("b", True)
    assert Router(biased, ("a",)).route(text).probability == pytest.approx(0.910, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no text"),
        (" \n", "no text"),
        ("?!", "no text"),
        ("12345", "no text"),
        ("Какая клетка не имеет ядра?", "Latin"),
        ("細胞の中で", "Latin"),
        ("Welche Zellen sind nicht in der Leber und warum?", "English"),
        ("Quelle est la fonction de la gene dans cette cell ?", "English"),
        ("def gene(cell):\n    return cell + 1", "code"),
        ("SELECT gene FROM cell;", "code"),
    ],
)
def test_simple_tests_come_first(text: str, why: str) -> None:
    route = Router(made()).route(text)
    assert route.domain is None
    assert why in route.reason


@pytest.mark.parametrize(
    "text",
    [
        "Let α and β be genes of a cell; is αβ a gene?",
        "Is the gene (in the cell) active; and is it (ever) not?",
        "Which gene is called der Zelle?",
        "The gene's cell (n=5) {alive}",
    ],
)
def test_simple_tests_refuse_nothing_ordinary(text: str) -> None:
    assert Router(made()).route(text).domain == "biology"


# --- properties

SENTENCES = [
    "Which organelle of a eukaryotic cell makes ATP by respiration?",
    "The treaty ended the war between the two empires.",
    "An attacker sends malware to steal a password.",
    "Find the determinant of the matrix.",
    "Kant thinks that a lie is always morally wrong.",
    "The weather was fine on that day.",
]


@given(st.permutations(SENTENCES), st.sampled_from([" ", "\n", "  \t "]), st.booleans())
def test_order_white_space_and_case_change_nothing(
    shipped: Router, order: list[str], space: str, upper: bool
) -> None:
    text = space.join(order)
    route = shipped.route(text.upper() if upper else text)
    assert route == shipped.route(" ".join(SENTENCES))


@given(
    st.sampled_from([trap["text"] for trap in TRAPS]),
    st.sampled_from(["Please think about it.", "Thank you!", "Here is the question."]),
)
def test_a_neutral_sentence_does_not_turn_a_confident_route(
    shipped: Router, text: str, neutral: str
) -> None:
    route = shipped.route(text)
    if route.domain is not None and route.probability >= 0.9:
        for more in (f"{text} {neutral}", f"{neutral} {text}"):
            assert shipped.route(more).domain == route.domain


@given(st.text(max_size=200), st.lists(st.text(max_size=30), max_size=4))
def test_any_text_is_routed_the_same_way_twice(
    shipped: Router, text: str, options: list[str]
) -> None:
    route = shipped.route(text, options)
    assert route == shipped.route(text, options)
    assert 0 <= route.probability <= 1
    assert -1 <= route.margin <= 1


WORDS = st.sampled_from(["cells", "Gene", "war", "of", "roman", "empires", ".", "0", "x", "=", "a"])


@given(st.lists(st.lists(WORDS, max_size=12).map(" ".join), min_size=1, max_size=4))
def test_the_quick_way_finds_what_the_plain_one_finds(parts: list[str]) -> None:
    known = ["cell", "gene", "war", "roman empire", "of roman empire", "0", "x =", "0 x = 1"]
    lexicon = Vocabulary(known)
    found, count = terms(parts)
    places, words = lexicon.find(parts)
    assert {lexicon.terms[place] for place in places} == found.keys() & set(known)
    assert len(words) == count


def test_the_shipped_keywords_hold_no_function_word(shipped: Router) -> None:
    weighed = {term for domain in shipped.keywords.domains.values() for term in domain.terms}
    weighed |= set(classifier_from_bytes(shipped.keywords.classifier).terms)
    single = [term for term in weighed if " " not in term]
    assert [term for term in single if not tells(term)] == []


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("history", ["world war", "civil war", "knight", "empire"]),
        ("security", ["encrypt", "phishing", "malware", "password"]),
        ("biology", ["chloroplast", "mitosis", "photosynthesis", "gene"]),
    ],
)
def test_what_everybody_would_expect_is_there(
    shipped: Router, domain: str, words: list[str]
) -> None:
    held = shipped.keywords.domains[domain].terms
    assert {word: held.get(word, 0.0) for word in words if held.get(word, 0.0) < 1} == {}


def test_the_shipped_file_is_small_and_says_where_it_comes_from(shipped: Router) -> None:
    size = SHIPPED.stat().st_size + len(shipped.keywords.classifier)
    assert size < 300_000
    assert shipped.keywords.fitted["questions"] > 1_000
    assert not any("test" in str(task) for task in shipped.keywords.fitted["tasks"])


# --- nearest examples


def near(text: str) -> SecondOpinion:
    """Everything is near an example of history."""
    return SecondOpinion({"history": 1.0}, {"history": "Who ruled Persia?"})


def test_examples_turn_what_the_words_were_not_sure_of() -> None:
    turned = Router(made(), examples=near).route("Whose gene, war or court was that in Lydia?")
    assert (turned.domain, turned.decided_by) == ("history", "embeddings")
    assert turned.nearest[0] == ("history", "Who ruled Persia?")
    assert "Who ruled Persia?" in turned.reason


def test_a_question_without_known_words_is_asked_about_too() -> None:
    text = "Whom did the satraps of Lydia obey?"
    assert Router(made()).route(text).domain is None
    found = Router(made(), examples=near).route(text)
    chances = [(1 / 3 + 2) ** 1.6, (1 / 3) ** 1.6]
    assert found.domain == "history"
    assert found.probability == pytest.approx(chances[0] / (chances[0] + 2 * chances[1]), abs=1e-4)


def test_what_is_less_probable_than_the_threshold_goes_to_the_base_model() -> None:
    def unsure(_: str) -> SecondOpinion:
        return SecondOpinion({"history": 0.5, "law": 0.5}, {"law": "Who sued?"})

    found = Router(made(), examples=unsure).route("Whom did the satraps of Lydia obey?")
    assert (found.domain, found.decided_by, found.nearest) == (
        None,
        "base",
        (("law", "Who sued?"),),
    )


def test_the_linear_model_has_half_of_the_second_opinion(tmp_path: Path) -> None:
    weights = np.array([[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]], dtype=np.float32)
    vectors = np.eye(2, dtype=np.float32)
    held = Examples("toy", ("a", "b"), ("law", "law"), vectors, ("history", "law"), weights)
    write_examples(tmp_path / "e.npz", held)
    for each in (held, read_examples(tmp_path / "e.npz")):
        shares = each.ask("?", lambda _: np.array([[1.0, 0.0]])).shares
        assert shares == {
            "history": pytest.approx(0.5, abs=1e-3),
            "law": pytest.approx(0.5, abs=1e-3),
        }
    write_examples(tmp_path / "e.npz", replace(held, weights=weights[:2]))
    with pytest.raises(Malformed, match="do not belong together"):
        read_examples(tmp_path / "e.npz")


def test_the_second_opinion_counts_twice() -> None:
    few = made(sure=0.99, threshold=0.1)
    text = "a war of the gene and the court"  # 8, 8 and 9 over the root of 7 words
    alone, both = Router(few).route(text), Router(few, examples=near).route(text)
    assert (alone.domain, both.domain) == ("law", "history")
    own = [math.exp(weight / 7**0.5) for weight in (8, 8, 9)]
    mean = [(each / sum(own) + said) ** 1.6 for each, said in zip(own, (2, 0, 0), strict=True)]
    assert both.probability == pytest.approx(mean[0] / sum(mean), abs=1e-3)


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    held = Examples("toy", ("a\nb", "c", "d"), ("history", "law", "history"), vectors)
    path = tmp_path / "routes.examples.npz"
    write_examples(path, held)
    again = read_examples(path)
    assert (again.model, again.texts, again.domains) == ("toy", ("a b", "c", "d"), held.domains)
    found = again.ask("?", lambda _: np.array([[0.9, 0.1, 0.0]]))
    assert found.nearest == {"history": "a b", "law": "c"}
    assert found.shares["history"] > 0.99
    assert sum(found.shares.values()) == pytest.approx(1.0)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(Malformed, match="holds no examples"):
        read_examples(path)
