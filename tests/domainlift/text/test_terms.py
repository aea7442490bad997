from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.text.terms import analysed, terms_of

pytest.importorskip("Stemmer")

SAME = [
    ("ﬁne ﬂour in the oﬃce", "fine flour in the office"),
    ("café", "cafe\u0301"),
    ("naïve façade", unicodedata.normalize("NFD", "naïve façade")),
    ("\uff26\uff35\uff2c\uff2c １２", "full 12"),
    ("ｶﾀｶﾅ", "カタカナ"),
    ("がぎ", unicodedata.normalize("NFD", "がぎ")),
    ("한국어", unicodedata.normalize("NFD", "한국어")),
    ("STRASSE", "straße"),
    ("ΟΔΟΣ", "οδος"),
    ("organ\u00adelle", "organelle"),
    ("a\u200bto\ufeffms", "atoms"),
    ("葛\U000e0100飾", "葛飾"),
    ("NodeJS", "Node.js nodejs"),
    ("C14", "c-14"),
    ("U.S.A. U.S. R&D", "USA US RD"),
    ("p < .05", "p<0.05"),
    ("1,000 cells’", "1000 cell's"),
]
APART = [
    ("C", "C++", "C#", "C-14", "F#", "R", "D", "A*"),
    (".NET", "a net"),
    ("Na+", "na"),
    ("3.14", "314", "3 14"),
]
TERMS = [
    ("C and C++, C# or F# on .NET; and R.", ["c", "c++", "c#", "f#", "net", ".net", "r"]),
    ("C/C++17, g++", ["c", "c++", "17", "g++"]),
    ("A* search, **C** and *D*", ["a*", "search", "c", "d"]),
    ("B-cell, T cells, IL-6", ["b", "cell", "bcell", "t", "cell", "il", "6", "il6"]),
    ("vitamin D. Hepatitis B!", ["vitamin", "d", "hepat", "b"]),
    ("don't, l'eau, O'Brien’s", ["don", "eau", "brien"]),
    ("1+1 = 2, x+y", ["1", "1", "2", "x", "y"]),
    ("1990-1995 foo_bar", ["1990", "1995", "foo", "bar", "foobar"]),
    ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
    ("Café Zürich", ["café", "cafe", "zürich", "zurich"]),
    ("naïve Łódź", ["naïv", "naiv", "łódź", "lodz"]),
    ("Điện Biên", ["điện", "dien", "biên", "bien"]),
    ("thé à l'été", ["thé", "à", "été", "ete"]),
    ("Saint-Étienne", ["saint", "étienn", "etienn", "saintetienn"]),
    ("ñ x\u0304", ["ñ", "x\u0304"]),
    ("йод, ё; がか", ["йод", "е", "がか"]),
    ("水", ["水"]),
    ("光合作用", ["光合", "合作", "作用"]),
    ("C语言和3D打印", ["c", "语言", "言和", "3d", "打印"]),
    ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
    ("ปลาทู", ["ปลา", "ลาทู"]),
    ("식물의 잎", ["식물", "물의", "잎"]),
    ("ຄວາມຮູ້", ["ຄວາ", "ວາມ", "າມຮູ້"]),
    ("the of and", []),
    ("+ # . * ' -", []),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_forms_of_one_text_have_the_same_terms(one: str, other: str) -> None:
    assert set(terms_of(one)) <= set(terms_of(other))
    if "." not in one + other and "-" not in one + other:
        assert terms_of(one) == terms_of(other)


@pytest.mark.parametrize("names", APART)
def test_names_that_differ_in_signs_have_a_term_of_their_own(names: tuple[str, ...]) -> None:
    assert len({tuple(terms_of(name)) for name in names}) == len(names)
    assert "c" not in [term for name in names if name != "C" for term in terms_of(name)]


@pytest.mark.parametrize(("text", "terms"), TERMS)
def test_terms(text: str, terms: list[str]) -> None:
    assert terms_of(text) == terms


def test_a_word_of_one_character_is_found_within_a_run() -> None:
    [indexed] = analysed(["饮用水和น้ำ"], indexed=True)
    assert set(terms_of("水")) | set(terms_of("น้ำ")) <= set(indexed)


_TEXT = st.text(st.sampled_from("aC+#.-*&'’_é e\u0301ﬁ水语カがปน้ำ한ह िn1٣,\u00ad\u200b "))


@given(st.one_of(st.text(), _TEXT))
def test_every_normal_form_has_the_same_terms_on_both_sides(text: str) -> None:
    [indexed] = analysed([text], indexed=True)
    assert set(terms_of(text)) <= set(indexed)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert terms_of(unicodedata.normalize(form, text)) == terms_of(text)
    assert all(terms_of(text))
