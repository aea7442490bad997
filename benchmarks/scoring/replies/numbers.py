"""Numbers in replies, in every notation that says one value.

A number is kept as the shortest text of its exact value: "1200.5", "-3", "1/3". What may be
several things (a range, a date, "3 or 4", 3π) is no number: a wrong reading is worse than none.
"""

from __future__ import annotations

import re
from fractions import Fraction

from benchmarks.scoring.replies.markup import normalised, without_markup
from benchmarks.scoring.replies.reading import Reading

_LARGEST = 100

_GROUPED = (
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?",
    r"\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?",
    r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}",
    r"\d{1,3}(?: \d{3})+(?:[.,]\d+)?",
    r"\d{1,3}(?:'\d{3})+(?:[.,]\d+)?",
    r"\d{1,3}(?:_\d{3})+(?:\.\d+)?",
)
# A comma before one, two or more than three digits, or after a zero, can only be a decimal one.
_COMMA = r"0,\d+|\d+,(?:\d{4,}|\d{1,2})"
_PLAIN = rf"(?>(?:{'|'.join(_GROUPED)}|{_COMMA})(?!\d|[.,']\d)|\d+(?:\.\d+)?(?!\d)|\.\d+)"
_SIMPLE = r"(?:\d+(?:\.\d+)?|\.\d+)"
_POWER = r" ?\^ ?\(?(?P<power>[-+]?\d{1,3})\)?"
_TENS = (
    r" ?(?:[×xX·*]|times) ?10 ?\^ ?\(?(?P<tens>[-+]?\d{1,3})\)?"
    r"|[eE](?P<exponent>[-+]?\d{1,3})(?![\w.])"
)
# The longer ones first, and no word that means different numbers in different languages (billón).
_SCALES = {
    9: "thousand million|mil(?:le)? millones|billion|bn|milliarde?n?|mrd|miljard|miliard[ay]?|млрд",
    6: "million(?:en|i|e)?|mill[oó]n(?:es)?|milh(?:ão|ões)|milion[iey]|miljoen|mi?ln|mio|mn|млн",
    3: "thousand|tausend|duizend|mille|mila|тыс",
    **{12: "trillion|tn", 7: "crore", 5: "lakh", 2: "hundred"},
}
_HAN_SCALES = {"万": 4, "萬": 4, "만": 4, "亿": 8, "億": 8, "억": 8}
# "300 K" is a temperature, "5k" a number.
_SCALE = (
    rf"(?: ?-?(?P<scale>(?i:{'|'.join(_SCALES.values())}|dozen))s?|(?P<kilo>k))(?!\w)"
    rf"| ?(?P<han>[{''.join(_HAN_SCALES)}])(?!\d)"
)
_SIGN = r"(?P<sign>(?<![\w).%])[-+](?=[\d.])|(?<!\w)(?i:minus|negative) (?=[\d.]))?"
# Not within a word, a power or a root, nor after the first part of what is spoiled.
_BEGIN = r"(?:(?<=[\u3040-\u9fff])|(?<![\w^√]))(?<![√^][({ ])(?<!\d[.,':/])(?<![^\W\d_]-)"
_NUMBER = (
    rf"{_BEGIN}(?>{_SIGN}"
    rf"(?:(?P<whole>\d+)(?: and)? (?P<above>\d+)/(?P<below>\d+)(?![\d/])"
    rf"|(?P<over>{_SIMPLE}) ?/ ?(?P<under>-?{_SIMPLE})(?![\d/])"
    rf"|(?P<plain>{_PLAIN})(?:{_TENS}|{_POWER})?)(?:{_SCALE})?)"
)
# What makes of a number a range, a date, a time, a list, a version, or a part of a term.
_SPOILED = (
    r"(?P<spoiled>(?:(?:[-–—:/,.^'~〜;|]|\.{2,})\d[\d.,]*)+| ?[π√∞]| ?\bpi\b|[xyzniKMBT](?!\w)"
    r"|(?<=0)[xX][\da-fA-F]+| ?[千천百백十십]|(?<=\d) mil(?!\w)"
    r"| ?(?:±|\+/-) ?\d+)?"
)
_TOKEN = re.compile(_NUMBER + _SPOILED)
_OPERATOR_BEFORE = re.compile(
    r"[\d)%] ?- ?\Z|[\w)%\]}] ?[+×÷·*/^] ?\Z|√\[\d\][{(]?\Z"
    r"|\b(?:arc)?(?:sin|cos|tan|cot|log|ln|lg|exp)(?:_\w{1,3})? ?[({]?\Z"
)
_OPERATOR_AFTER = re.compile(r" ?[+*/×÷·^]| ?-(?= ?\d)| - ")
_HEDGED = re.compile(
    r"\d[^\n\d]{0,12} or (?:maybe |perhaps )?\Z|\bbetween [^\n]{1,24} and \Z|(?:\bnot|n't) \Z"
    r"|(?<!from )\b(?:\d[\d.,]*)?\d(?: to| over| and| ?[&|;])? \Z"
)
# Numbers of what is referred to, where another number stands before them: "1969 [2]", "see step 3".
_CITED = re.compile(
    r"(?<=[\w.!?%)'])(?<!\bis)(?<!\bbe)(?<!\bare)"
    r"(?: ?\[\d{1,2}(?:, ?\d{1,2})*\]| ?【[^【】\n]{1,20}】)+"
)
_LABEL = re.compile(
    r"\b(?:passages?|pages?|p\.|sources?|steps?|fig(?:ure|\.)|tables?|sections?|notes?) ?\Z",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(
    r"[(]|(?:explanation|because|reason|note|source|step|here|this)", re.IGNORECASE
)
# A quantity in parts is no number of either: "2 hours 30 minutes", "5 ft 11 in", "2 million 5".
_PARTS = (
    r"years?|yrs?|months?|mos?|weeks?|wks?|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s"
    r"|jahren?|jahre?|monate?n?|wochen?|tage?n?|stunden?|std|minuten?|sekunden?|sek|heures?|jours?"
    r"|años?|mes|meses|días?|horas?|minutos?|segundos?|小时|小時|時間|分钟|分鐘|分|秒",
    r"miles?|mi|yards?|yds?|feet|foot|ft|inch(?:es)?|in|km|m|cm|mm|(?:kilo|centi|milli)?met(?:er|re)s?",
    r"stones?|st|pounds?|lbs?|ounces?|oz|tons?|tonnes?|t|kg|g|mg|(?:kilo|milli)?grams?|kilos?",
    r"gallons?|gal|quarts?|pints?|cups?|l|ml|(?:milli)?lit(?:er|re)s?",
    r"dollars?|cents?|euros?|pounds?|pence|p|¢",
    r"degrees?|°|minutes?|seconds?",
)
_JOIN = r"\.?(?:,? (?:and|und|et|y|e) |, ?| ?)"
_LARGE = rf"(?:{'|'.join(_SCALES.values())}|dozen)s?(?: and)? "
_PARTED = re.compile(
    "|".join(rf"\d ?(?:{each})(?:{_JOIN}\d[\d.]* ?(?:{each}))+(?![a-z])" for each in _PARTS)
    + rf"|\d ?° ?\d|\d ?h ?\d\d(?!\w)|\d and \d+ ?(?:cents?|pence)\b|\d ?{_LARGE}\d"
    r"|\d(?: [^\W\d]{1,9})? and (?:a|one|three) (?:half|quarters?|thirds?)\b",
    re.IGNORECASE,
)
_HEDGES = re.compile(r"[^\n\d.]{0,12} or (?:maybe |perhaps )?-?\d|(?: and| to|[,;]| &) -?\d")

_ABOUT = r"(?:(?:approximately|about|around|roughly|exactly|only|a total of|equal to|[≈~=]) ?){0,2}"
_IS = (
    r"(?: (?:here|to this question))?(?: (?:is|are|was|would be|should be|must be|equals)| ?=)"
    r"(?: therefore| thus| clearly| definitely| simply| probably| actually| indeed)?"
    r"(?: ?:)?| ?:| ?(?:->|→|=>)"
)
_FORMS = (
    ("####", re.compile(r"#### ?")),
    ("boxed", re.compile(r"\\(?:boxed|fbox) ?(?:\{ ?([^{}\n]*)\}?|([^\s{}]+))")),
    ("<answer>", re.compile(r"<(?:(?:final_)?answer|solution)> ?\n?", re.IGNORECASE)),
    (
        "answer is",
        re.compile(
            rf"(?:\banswer|\b(?:antwort|respuesta|réponse|risposta|resposta|resultat|result)"
            rf"|\bfinal (?:result|value|total)|答案|答え)(?:{_IS}|是|为|は)[ \n]{{0,2}}{_ABOUT}",
            re.IGNORECASE,
        ),
    ),
)
_MONEY = re.compile(r"(?<=[$€£¥₹])( ?\d[\d.,]{0,20}) ?([KMBT])\b")
_MONEY_SCALES = {"K": "thousand", "M": "million", "B": "billion", "T": "trillion"}
_CURRENCY = re.compile(
    r"[€£¥₹₩]|\b(?:US|A|C)(?=\$)|\b(?:USD|EUR|GBP|JPY|CHF|INR|CAD|AUD|Rs\.?) ?(?=[-\d.])"
)
_AFTER = re.compile(
    r" ?(?:%|percent|per cent|pct|dollars?|euros?|pounds?|usd|eur|gbp|cents?)?[.!]?\Z",
    re.IGNORECASE,
)


def extract_number(reply: str) -> Reading | None:
    """Return the reply's final number, None where it has none or more than one may be meant."""
    text = _text(reply)
    for name, form in _FORMS:
        for mark in reversed(list(form.finditer(text))):
            inside = next(filter(None, mark.groups()), None)
            if inside is not None:
                return _reading(_only(inside), name)
            value = _value_at(text, mark.end())
            if value != "":
                return _reading(value, name)
    words = number_of_words(text)
    if words is not None:
        return Reading(words, "number in words")
    first, _, rest = text.partition("\n")
    alone, last = _alone(first), _last(text)
    if alone is None or (not rest[:1].isalpha() and rest[:1] != "("):
        return _reading(last, "last number")
    # What comes after a number alone may explain it, or take it back.
    return _reading(alone if last == alone or _EXPLAINED.match(rest) else None, "first line")


def as_number(text: str) -> str | None:
    """Return the value of a text that is one number, as "1200.5" for "$1,200.50"."""
    plain = _text(text).strip(" ~≈\n")
    return _alone(plain) or number_of_words(plain)


def _alone(plain: str) -> str | None:
    """The value of a text that is one number, perhaps with its unit of money."""
    token = _TOKEN.match(plain)
    alone = token is not None and _AFTER.match(plain, token.end()) is not None
    return _value(token) if token is not None and alone else None


def plain_numbers(text: str) -> str:
    """A text that has no markup, with each number in it as its value."""
    return _TOKEN.sub(lambda token: _value(token) or token[0], text)


def _text(reply: str) -> str:
    text = _MONEY.sub(lambda m: f"{m[1]} {_MONEY_SCALES[m[2]]}", normalised(reply))
    return without_markup(_CURRENCY.sub("", text)).replace("= - ", "= -")


def _reading(value: str | None, by: str) -> Reading | None:
    return None if value is None else Reading(value, by)


def _value_at(text: str, start: int) -> str | None:
    """The value that stands here: "" for none or a calculation, None for more than one."""
    token = _TOKEN.match(text, start)
    if token is None:
        words = re.match(r"[A-Za-z -]{1,60}", text[start : start + 60])
        return (number_of_words(words[0]) or "") if words is not None else ""
    if _OPERATOR_AFTER.match(text, token.end()) is not None:
        return ""
    return None if _HEDGES.match(text, token.end()) is not None else _single(token)


def _only(text: str) -> str | None:
    """The value of a frame's content, which may be an equation: of one number, or of none."""
    left, _, right = text.rpartition("=")
    tokens = list(_TOKEN.finditer(right))
    if len(tokens) == 1 and "=" not in left:
        token = tokens[0]
        operated = _OPERATOR_BEFORE.search(right[: token.start()])
        return None if operated or _OPERATOR_AFTER.match(right, token.end()) else _single(token)
    return None if tokens else number_of_words(right)


def _last(text: str) -> str | None:
    """The value of the last number; None where that is one of several, or of a calculation."""
    tokens = list(_TOKEN.finditer(_CITED.sub("", text))) or list(_TOKEN.finditer(text))
    said = [each for each in tokens if not _LABEL.search(each.string[: each.start()][-12:])]
    if not tokens:
        return None
    token = (said or tokens)[-1]
    before = token.string[max(0, token.start() - 40) : token.start()]
    signed = token["sign"] is not None and re.search(r"\d \Z", before) is not None
    if signed or _OPERATOR_BEFORE.search(before) or _HEDGED.search(before):
        return None
    return _single(token)


def _single(token: re.Match[str]) -> str | None:
    """The value, None for one of the numbers of a quantity in parts."""
    start, end = token.span()
    around = _PARTED.finditer(token.string, max(0, start - 40), end + 40)
    parts = any(start < parted.end() and parted.start() < end for parted in around)
    return None if parts else _value(token)


def _value(token: re.Match[str]) -> str | None:
    found = token.groupdict()
    if found["spoiled"] or len(token[0]) > _LARGEST or _is_pair(token):
        return None
    try:
        value = _magnitude(found)
    except (ZeroDivisionError, OverflowError):
        return None
    if value is None:
        return None
    scale = "thousand" if found["kilo"] else (found["scale"] or "").casefold()
    if scale:
        value *= 12 if scale == "dozen" else 10 ** _exponent(scale)
    if found["han"]:
        value *= 10 ** _HAN_SCALES[found["han"]]
    negative = found["sign"] is not None and found["sign"].strip() != "+"
    shortest = _shortest(-value if negative else value)
    return shortest if len(shortest) <= _LARGEST else None


def _exponent(scale: str) -> int:
    return next(n for n, words in _SCALES.items() if re.fullmatch(words, scale, re.IGNORECASE))


def _is_pair(token: re.Match[str]) -> bool:
    """Whether it is a point or an interval: "(3,5)"."""
    text, start, end = token.string, token.start(), token.end()
    around = text[max(0, start - 1) : start] + text[end : end + 1]
    return len(around) == 2 and around[0] in "([" and around[1] in ")]" and "," in token[0]


def _magnitude(found: dict[str, str | None]) -> Fraction | None:
    if found["whole"] is not None:
        part = Fraction(int(found["above"] or 0), int(found["below"] or 0))
        return int(found["whole"]) + part if part < 1 else None
    if found["over"] is not None:
        return Fraction(found["over"]) / Fraction(found["under"] or 0)
    value = Fraction(_english(found["plain"] or ""))
    if found["power"] is not None:
        small = value.denominator == 1 and abs(int(found["power"])) * len(str(value)) <= _LARGEST
        return value ** int(found["power"]) if small else None
    exponent = found["tens"] or found["exponent"]
    return value if exponent is None else _shifted(value, int(exponent))


def _shifted(value: Fraction, exponent: int) -> Fraction | None:
    return value * Fraction(10) ** exponent if abs(exponent) <= _LARGEST else None


def _english(plain: str) -> str:
    """The digits with a point before the decimals, and nothing between the thousands."""
    plain = re.sub(r"[ '_]", "", plain)
    commas, points = plain.count(","), plain.count(".")
    if commas and points:
        last_is_comma = plain.rfind(",") > plain.rfind(".")
        plain = plain.replace(".", "") if last_is_comma else plain.replace(",", "")
    elif points > 1:
        plain = plain.replace(".", "")
    elif commas > 1 or (commas and re.fullmatch(r"[1-9]\d{0,2},\d{3}", plain)):
        plain = plain.replace(",", "")
    return plain.replace(",", ".")


def _shortest(value: Fraction) -> str:
    """A decimal where the value has one, else a fraction."""
    below, places = value.denominator, 0
    while below > 1 and places < _LARGEST and 10**places % below:
        places += 1
    if 10**places % below:
        return f"{value.numerator}/{below}"
    digits = str(abs(value.numerator) * 10**places // below).rjust(places + 1, "0")
    whole, decimals = digits[: len(digits) - places], digits[len(digits) - places :]
    return ("-" if value < 0 else "") + whole + (f".{decimals}" if decimals else "")


_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS_WORDS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORD_VALUES = {
    **{word: value for value, word in enumerate(_UNITS)},
    **{word: 10 * value for value, word in enumerate(_TENS_WORDS, 2)},
}
_WORD_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}


def number_of_words(text: str) -> str | None:
    """The value of a text that is a number in English words: "twenty-one", "two million"."""
    if len(text) > _LARGEST:
        return None
    words = re.sub(r"[-\s]+", " ", text.casefold()).strip(" .!").split()
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    words = words[sign < 0 :]
    if not words or words[-1] == "and" or words[0] in ("and", "hundred", *_WORD_SCALES):
        return None
    total = part = 0
    last = 0
    for word in words:
        if word in _WORD_VALUES:
            value = _WORD_VALUES[word]
            # Words of one number follow one another as in "twenty one" only.
            if part % 100 and not (part % 10 == 0 and part % 100 >= 20 and 0 < value < 10):
                return None
            part += value
        elif word == "hundred" and 0 < part < 10:
            part *= 100
        elif word in _WORD_SCALES and part:
            if last and _WORD_SCALES[word] >= last:
                return None
            last = _WORD_SCALES[word]
            total, part = total + part * 10**last, 0
        elif word != "and":
            return None
    return str(sign * (total + part))
