"""Letters of options in replies.

A wrong reading is worse than none: a reply that hedges ("A or B"), or whose "A" may be the
article, has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from string import ascii_uppercase

from benchmarks.scoring.replies.markup import without_markup
from benchmarks.scoring.replies.reading import Reading

# What may follow "A" or "I" where it is a letter and no word of a sentence.
_REASON = r"(?:because|since|as|is|seems|must|due|for|which|and|or|with)\b"
# Chinese, Japanese and Korean go on without a blank.
_END = r"(?!(?![\u3040-\u9fff\uac00-\ud7af])\w|['-]\w)"
_CLOSED = r"(?=[).:,;!\]}]|\n|\Z)"
_NOUN = r"(?:option|choice|letter|answer)"
_NAMED = rf"(?i:(?:the )?(?:(?:correct |right )?{_NOUN} )?)[(\[{{']{{0,2}}"
_IS = (
    r"(?i:(?: here| to this question)?"
    r"(?: is| would be| should be| must be| ?=| ist| lautet| es| est| è| é)"
    r"(?: therefore| thus| clearly| definitely| probably| most likely| actually| indeed)?(?: ?:)?"
    r"| ?:| ?(?:->|→|=>)| [-–—]|是|为|為|は|은|는)[ \n]{0,2}"
)
_ANSWER = (
    r"(?i:\banswer|\b(?:correct|right|best) (?:option|choice|one|response|letter)"
    r"|\b(?:option|choice|letter|selection)(?= ?:| is )"
    r"|\b(?:correct|response|output|solution|result)(?= ?:)"
    r"|\b(?:antwort|respuesta|réponse|risposta|resposta|ответ)(?: corre[ct]{1,2}[ae])?"
    r"|答案|回答|答え|正解|정답|답)"
)
_OPINION = (
    r"(?:(?i:\b(?:it's|it is|it must be|choose|pick|select|go with|say|guess|think|believe)[ :])"
    r"|[选選](?:择|擇)?:? ?)"
)
_BOXED = r"\\(?:boxed|fbox) ?\{ ?(?:\\\w{1,8} ?\{)?" + _NAMED
_RIGHT = (
    r"(?i:(?:is|seems|must be|would be)(?: the)?(?: most| only)? "
    r"(?:correct|right|best|true|answer))"
)
_SO = r"(?i:\b(?:therefore|thus|hence|so|consequently)[,:]? )"
_START = r"\A\W{0,8}"
_TAKEN_BACK = (
    r"(?i:\b(?:no|wait|actually|sorry|correction|rather|instead|or (?:maybe|perhaps|possibly))\b)"
)
_DENIED_AFTER = re.compile(
    r"[ '\"]{0,2}(?:(?:is|was) (?:not|wrong|incorrect|false)\b|(?:is|was)n't\b)"
)
_DENIED = re.compile(r"\b(?:not|never|neither)\b|n't\b")

# From the most explicit form to the least; the last match of the first form that occurs counts,
# because a reply that reasons states its answer at the end. U is a letter, E one in either case.
_LETTER_FORMS = (
    ("letter alone", _START + _NAMED, "E", r"\W{0,4}(?:\n|\Z)"),
    ("boxed", _BOXED, "E", r"(?=[).:,} \]])"),
    ("answer is", _ANSWER + _IS + _NAMED, "U", _END),
    ("answer is", _ANSWER + f"(?:{_IS})?[ \n]?" + _NAMED, "E", _CLOSED),
    (
        "<answer>",
        r"[<[](?i:(?:final_)?answer|ans|choice|option|solution)[]>]\W{0,4}" + _NAMED,
        "E",
        r"\b",
    ),
    ("opinion", _OPINION + _NAMED, "U", _END),
    ("is correct", r"(?<![\w'])", "U", r"[)\]]? " + _RIGHT),
    ("conclusion", _SO + _NAMED, "U", _CLOSED),
    (
        "label",
        r"\A(?!.*(?i:not\b|n't|wrong|false|except))[^\n:]{2,40}: ?" + _NAMED,
        "U",
        r"\W{0,4}\Z",
    ),
    ("last line", r"\n\W{0,8}" + _NAMED, "E", r"\W{0,4}\Z"),
    ("first letter", _START + _NAMED, "U", r"(?:[).:,;\]](?![A-Za-z]\.)| ?[-–—] )"),
    ("first letter", _START + _NAMED, "U", r"[)\]]? (?i:because|since|due to)\b"),
    ("first letter", _START, "E", r"[).](?=[ \n])"),
)


def extract_letter(reply: str, options: Sequence[str]) -> Reading | None:
    """Return the index of the option that the reply names, by its letter or its whole text.

    None where it names none, or where it is unclear which of several it means.
    """
    text = without_markup(reply)
    letters = ascii_uppercase[: len(options)]
    for name, form in _letter_forms(letters):
        matches = list(form.finditer(text))
        if matches:
            last = matches[-1]
            unclear = _hedged(text, last, letters) or _lists(text, last, letters)
            return None if unclear else Reading(letters.index(last[1].upper()), name)
    index = _whole_text(text, options)
    return None if index is None else Reading(index, "text of the option")


@cache
def _letter_forms(letters: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    if not letters:
        return ()
    words = "".join(sorted({"A", "I"} & set(letters)))
    others = "".join(sorted(set(letters) - {"A", "I"}))
    upper = rf"(?:[{words}](?! (?!{_REASON})\w)" + (rf"|[{others}])" if others else ")")
    classes = {"U": upper, "E": f"[{letters}{letters.lower()}]"}
    return tuple(
        (name, re.compile(f"{before}({classes[kind]}){after}"))
        for name, before, kind, after in _LETTER_FORMS
    )


def _hedged(text: str, match: re.Match[str], letters: str) -> bool:
    """Whether another letter stands beside this one: "A or B", "A, B and C", "A/B"."""
    start, end = match.span(1)
    another = rf"[(\[]?[{letters}](?![\w'])"
    joined = rf"[)\]]?(?: (?:or|and|&) | ?/ ?){another}"
    listed = rf"[)\]]?, ?(?:or |and )?{another}(?=[),.\n]|\Z| (?:or|and|are)\b)"
    before = rf"\b[{letters}][)\]]?(?:,? (?:or|and|&) | ?/ ?)[(\[]?\Z"
    corrected = rf"[^\n]{{0,30}}{_TAKEN_BACK}[^\n]{{0,20}}\b[{letters}](?![\w'])"
    denied = r"(?i:\b(?:not|never)(?: the| an?)?(?: correct| right| best)? )\Z"
    return (
        re.search(denied, text[max(0, match.start() - 24) : match.start()]) is not None
        or re.match(corrected, text[end : end + 60]) is not None
        or re.match(f"{joined}|{listed}", text[end : end + 20]) is not None
        or re.search(before, text[max(0, start - 20) : start]) is not None
    )


def _lists(text: str, match: re.Match[str], letters: str) -> bool:
    """Whether the reply goes through the options one by one, and so names none by its first."""
    first, _, others = text.partition("\n")
    rest = first[match.end(1) :]
    if match.end(1) >= 12 or re.search(r"\w", rest) is None:
        return False
    following = letters[letters.index(match[1].upper()) + 1 :][:1]
    return re.search(rf"(?:\A|\n)\W{{0,4}}[{letters}][).:]", others) is not None or (
        following != "" and re.search(rf"[ (]{following}[).:] ", rest) is not None
    )


def _whole_text(text: str, options: Sequence[str]) -> int | None:
    """An option that the reply consists of, or the only one that stands in its first line."""
    plain = [_plain(without_markup(option)) for option in options]
    whole = _plain(text)
    if not whole:
        return None
    if whole in plain:
        return plain.index(whole) if plain.count(whole) == 1 else None
    line = _plain(text.partition("\n")[0])
    inside = {i: place for i, o in enumerate(plain) if o and (place := _place(o, line)) is not None}
    # An option may be a part of another: "Paris", "Paris, Texas".
    longest = [i for i in inside if not any(i != j and plain[i] in plain[j] for j in inside)]
    if len(longest) != 1 or _DENIED.search(line[: inside[longest[0]]]):
        return None
    if _DENIED_AFTER.match(line, inside[longest[0]] + len(plain[longest[0]])):
        return None
    return longest[0]


def _place(text: str, line: str) -> int | None:
    match = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", line)
    return None if match is None else match.start()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,:;!?'")
