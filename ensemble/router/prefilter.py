"""Prefilter of the router: texts that no domain answers better, as empty, foreign or code."""

from __future__ import annotations

import re
from collections.abc import Set

from ensemble.router.stop_words import FUNCTION_WORDS
from ensemble.router.tokenize import singular

_BEGINS = (
    "def ", "import ", "#include", "public ", "private ", "return ", "const ", "var ", "function ",
    "SELECT ", "INSERT INTO ", "print(", "printf(", "if (", "for (", "while (", "else",
    "$ ", "</", "<?", "<!", "//", "#!", "@", "try:", "except", "elif ", "console.", "}",
)  # fmt: skip
_ENDS = (";", "{", "):", "/>")
# No code does without one of these; to look for them costs next to nothing.
_MARKS = ("(", ";", "{", "=", "<", "import ", "SELECT ", "INSERT ", "$ ", "return ", "@", "#!")
_CALL = re.compile(r"(?:[\w.]+\s*[+*-]?=\s*)?[\w.]+\([^)]*\)|[\w.]+\s*[+*-]?=\s*\S+|</?\w+[^>]*>.*")
# Frequent words of other languages that are no frequent words of English: French, German, Spanish,
# Italian, Portuguese, Dutch, Latin, Polish, Turkish, Swedish.
_OTHER_LANGUAGES = """
le la les des du une est sont dans pour avec qui que quelle quel quels quelles ce cette aux et
der das und ist nicht ein eine einer welche welcher welches wie wer wird mit von zu den dem für
el los las una es son por para con qué cuál cuáles quién cómo del se su más
il lo gli di che è nel della delle quale chi perché sono un
não uma dos das os em qual são foi ao
het een van welke wat niet zijn deze voor met
et quod sunt cum non ad
jest czy nie który która jak się
bir ve bu hangi nedir için
och är vilken det som av på
"""
# Latin letters with all their usual accents end at U+024F.
_LETTER = re.compile(r"[^\W\d_]")
_OTHER_LETTER = re.compile(r"[^\W\d_\x00-\u024f]")
_MOST_FOREIGN = 0.3
_FOREIGN = frozenset(map(singular, _OTHER_LANGUAGES.split()))


def unroutable_reason(text: str, words: Set[str]) -> str:
    """Reason to send a text to the base model whatever its meaning; "" where there is none.

    `words` are its distinct words, as terms. A number alone asks nothing.
    """
    if words <= {"0"} or not text.strip():
        return "there is no text"
    if not text.isascii() and _share_of_other_scripts(text) > _MOST_FOREIGN:
        return "it is not written in Latin letters"
    foreign = len(_FOREIGN & words)
    if foreign > 1 and foreign > len(FUNCTION_WORDS & words):
        return "it is not in English"
    if any(map(text.__contains__, _MARKS)) and _is_code(text):
        return "it is code"
    return ""


def _share_of_other_scripts(text: str) -> float:
    letters = len(_LETTER.findall(text))
    return len(_OTHER_LETTER.findall(text)) / letters if letters else 0.0


def _is_code(text: str) -> bool:
    """Whether more than half of the lines look like a program's."""
    lines = [line.strip() for line in text.splitlines() if not line.isspace()]
    looks = sum(
        line.endswith(_ENDS) or line.startswith(_BEGINS) or _CALL.fullmatch(line) is not None
        for line in lines
        if line
    )
    return looks * 2 > sum(map(bool, lines))
