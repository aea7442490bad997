from __future__ import annotations

import string
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import Malformed
from ensemble.router.classifier import classifier_bytes
from ensemble.router.keywords import (
    DomainTerms,
    Keywords,
    RouterCalibration,
    as_text,
    backup,
    by_hand,
    hand_written,
    read_keywords,
    write_keywords,
)
from ensemble.router.safe_regex import compile_safely
from ensemble.router.tokenize import router_words, singular, term_of
from knowledge_bases.domains import load_domains

KNOWN = load_domains()
GOOD = """\
calibration: {temperature: 0.9, threshold: 0.5, sure: 0.8}
domains:
- name: biology
  bias: -0.5
  terms:
    cell: 2
    natural selection: 3.5
  negatives: {cell phone: -6}
  patterns:
    '\\bRNA\\b': 1.5
- name: history
  terms: {war: 2}
"""


def small() -> bytes:
    """The file of a classifier of two terms."""
    weights = np.array([[1.0, -1.0], [0.5, 2.0]])
    return classifier_bytes(("biology", "history"), ("cell", "war"), weights, np.zeros(2), 1.0)


def npz(**parts: Any) -> bytes:
    """A file that numpy reads."""
    buffer = BytesIO()
    held = {k: np.frombuffer(v, np.uint8) if isinstance(v, bytes) else v for k, v in parts.items()}
    np.savez(buffer, **held)
    return buffer.getvalue()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    keywords = read_keywords(written(tmp_path, GOOD), KNOWN)
    biology = keywords.domains["biology"]
    assert biology.terms == {"cell": 2, "natural selection": 3.5, "cell phone": -6}
    assert biology.patterns == {r"\bRNA\b": 1.5}
    assert (biology.bias, keywords.domains["history"].bias) == (-0.5, 0.0)
    assert keywords.calibration == RouterCalibration(0.9, 0.5, 0.8)


FAULTS = [
    ("name: history", "name: histroy", "no domain `histroy`", 11),
    ("name: history", "name: biology", "domain `biology` stands twice", 11),
    ("cell: 2", "cell: much", "`cell` must be a finite number", 6),
    ("cell: 2", "cell: .inf", "`cell` must be", 6),
    ("cell: 2", "cell: .nan", "`cell` must be", 6),
    ("cell: 2", "cell: true", "`cell` must be a finite number", 6),
    ("cell: 2", "Natural Selections: 2", "term `natural selection` stands twice", 7),
    ("cell: 2", "cell phone: 2", "term `cell phone` stands twice", 8),
    ("cell: 2", "natural selection: 2", "stands twice, first in line 6", 7),
    ("cell: 2", "a b c d: 2", "has 4 words", 6),
    ("cell: 2", "'-': 2", "holds no word", 6),
    ("cell phone: -6", "cell phone: 6", "not one below 0", 8),
    ("'\\bRNA\\b'", "'(RNA'", "is no regular expression", 10),
    ("'\\bRNA\\b'", "'(a+)+b'", "can take forever", 10),
    ("'\\bRNA\\b'", "'a*'", "matches the empty text", 10),
    ("sure: 0.8", "sure: 1.8", "`sure` is 1.8, not between 0 and 1", 1),
    ("sure: 0.8", "shure: 0.8", "no key `shure`", 1),
    ("terms: {war: 2}", "term: {war: 2}", "unknown key `term`", 12),
    ("terms: {war: 2}", "terms: [war]", "must be keys with values", 12),
]


@pytest.mark.parametrize(("good", "bad", "what", "line"), FAULTS)
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, good: str, bad: str, what: str, line: int
) -> None:
    assert good in GOOD
    path = written(tmp_path, GOOD.replace(good, bad))
    with pytest.raises(Malformed) as caught:
        read_keywords(path, KNOWN)
    assert what in caught.value.what
    assert caught.value.what.startswith(f"{path}:{line}: ")


def test_the_nearest_domain_is_named(tmp_path: Path) -> None:
    with pytest.raises(Malformed) as caught:
        read_keywords(written(tmp_path, GOOD.replace("history", "histroy")), KNOWN)
    assert caught.value.hint is not None
    assert "did you mean `history`?" in caught.value.hint


@pytest.mark.parametrize("text", ["", "domains: []\n", "domains: 3\n", "- a\n", "a: [\n", "\0"])
def test_no_keywords_at_all_is_a_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(Malformed):
        read_keywords(written(tmp_path, text), KNOWN)


# --- patterns

BAD = [
    ("(", "no regular expression"),
    ("a{2", None),
    ("(a+)+", "forever"),
    ("(a|b)*c", None),
    ("(ab|b)*c", "forever"),
    ("(a?){30}a{30}", "forever"),
    ("(?:a{1,20}){1,20}", "forever"),
    ("a*b*c", "2 loops"),
    ("a?a?a?a?a?aaaa", "5 choices"),
    (r"(a)\1", "refers to a group"),
    (r"(?P<x>a)(?P=x)", "refers to a group"),
    ("(a)?(?(1)b|c)", "refers to a group"),
    ("(?x)a # [", "sets flags"),
    ("((a+)b){2}", "forever"),
    (r"(\(a|ab)+", "forever"),
    (r"([)a(]+\)b)*", "forever"),
    ("(?:ab|cd|ef)?(?=x)", None),
    (r"(?:\d{3},){2}\[*", None),
    ("aa|ab|ba|bb|cc|ccc", None),
    ("a|", "empty text"),
    ("x" * 201, "201 characters"),
    (r"\b\d+ (?:BC|AD)\b", None),
    (r"[12]\d{3}s?", None),
]


@pytest.mark.parametrize(("pattern", "fault"), BAD)
def test_only_harmless_patterns_are_taken(pattern: str, fault: str | None) -> None:
    if fault is None:
        assert compile_safely(pattern)
        return
    with pytest.raises(ValueError, match=fault):
        compile_safely(pattern)


@given(st.text(alphabet="ab(|)*+?{}123,[]\\.^$", max_size=16))
def test_what_is_taken_ends_soon(pattern: str) -> None:
    import time

    try:
        made = compile_safely(pattern)
    except ValueError:
        return
    start = time.perf_counter()
    made.search("ab" * 500)
    assert time.perf_counter() - start < 2


# --- writing

TERMS = st.text(alphabet=string.ascii_lowercase + " 0=*'éß#:", min_size=1, max_size=12)


def _terms(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for number, text in enumerate(texts, 1):
        try:
            found[term_of(text)] = float(number) * (-1) ** number
        except ValueError:
            continue
    return found


@given(st.lists(TERMS, max_size=8))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    extra = dict.fromkeys(("yes", "no", "null", "on", "y"), 1.0)
    path = tmp_path_factory.mktemp("keywords") / "routes.yaml"
    held = {"biology": DomainTerms(1.5, {**_terms(texts), **extra}, {"a'b\\d": 2.0})}
    keywords = Keywords(held, RouterCalibration(0.5, 0.25, 0.75), {"date": "today", "questions": 3})
    write_keywords(path, keywords)
    assert read_keywords(path, KNOWN) == keywords


def test_large_files_are_read_as_small_ones_are(tmp_path: Path) -> None:
    from domainlift import yaml_schema as strict_yaml

    names = ["".join(pair) for pair in product(string.ascii_lowercase, repeat=2)]
    small = as_text(Keywords({"biology": DomainTerms(0, {f"word {n}x": 1.5 for n in names})}))
    large = small + "# much\n" * 5_000
    assert len(small) < strict_yaml.QUICK_FROM
    assert len(large) > strict_yaml.QUICK_FROM
    assert read_keywords(written(tmp_path, small)) == read_keywords(written(tmp_path, large))
    deep = written(tmp_path, "domains: " + "[" * 50_000 + "\n" * strict_yaml.QUICK_FROM)
    with pytest.raises(Malformed):
        read_keywords(deep)


def test_a_classifier_that_is_gone_or_another_is_named(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    write_keywords(path, Keywords({"biology": DomainTerms()}, classifier=small()))
    assert read_keywords(path).classifier == small()
    beside = next(tmp_path.glob("*.npz"))
    for content in (b"two", None):
        beside.unlink()
        if content is not None:
            beside.write_bytes(content)
        with pytest.raises(Malformed, match="is not there, or another file") as caught:
            read_keywords(path)
        assert "bench route fit" in str(caught.value.hint)


@pytest.mark.parametrize(
    "content",
    [
        b"one",
        b"PK\x03\x04 and no more",
        npz(weights=[1]),
        npz(weights=[[1.0]], scale=[1.0], bias=[0.0], temperature=1.0, terms=b"a\nb", domains=b"c"),
        npz(weights=[[1.0]], scale=[1.0], bias=[0.0], temperature=0.0, terms=b"a", domains=b"c"),
        npz(weights=[["x"]], scale=[1.0], bias=[0.0], temperature=1.0, terms=b"a", domains=b"c"),
        small()[:-40],
    ],
)
def test_what_is_no_classifier_is_refused_where_it_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "routes.yaml"
    write_keywords(path, Keywords({"biology": DomainTerms()}, classifier=content))
    with pytest.raises(Malformed, match=r"`classifier` names `.*npz`, which is none"):
        read_keywords(path)


def test_a_note_that_is_empty_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    noted = {"tasks": [], "vectors": "", "note": None, "questions": 0}
    write_keywords(path, Keywords({"biology": DomainTerms()}, fitted=noted))
    assert read_keywords(path).fitted == {"questions": 0}
    write_keywords(path, Keywords({"biology": DomainTerms()}, fitted={"tasks": []}))
    assert read_keywords(path).fitted == {}


def test_the_file_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    assert backup(path) is None
    for number in (1, 2):
        path.write_text(str(number), encoding="utf-8")
        assert backup(path) == tmp_path / f"routes.{number}.yaml"
    assert (tmp_path / "routes.2.yaml").read_text(encoding="utf-8") == "2"


# --- without a fit


def test_declared_keywords_serve_where_nothing_was_fitted() -> None:
    keywords = hand_written(KNOWN)
    assert keywords.domains.keys() == KNOWN.keys()
    assert keywords.domains["biology"].terms["natural selection"] > 0
    assert not keywords.fitted
    assert "premise" in by_hand(KNOWN["philosophy"]).terms


# --- terms


@pytest.mark.parametrize(
    ("word", "term"),
    [
        *(("cells", "cell"), ("bodies", "body"), ("classes", "class"), ("boxes", "box")),
        *(("gas", "gas"), ("class", "class"), ("virus", "virus"), ("analysis", "analysis")),
        *(("was", "was"), ("species", "specy"), ("genes", "gene"), ("ties", "tie")),
    ],
)
def test_plurals_are_one_with_their_words(word: str, term: str) -> None:
    assert singular(word) == term


def test_words_numbers_and_marks() -> None:
    assert router_words("3x + 12 = DNA's.") == ["0", "x", "+", "0", "=", "dna", "s", "."]
    assert router_words("Étés, ÉTÉ") == ["été", "été"]
