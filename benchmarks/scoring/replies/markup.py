"""Replies without their markup: Markdown, HTML, LaTeX, and signs of which there are several."""

from __future__ import annotations

import html
import re
import unicodedata

_SILENT = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\ufe0f\ufe0e"))
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ′", "'"),
        **dict.fromkeys("−﹣－‐‑‒˗➖", "-"),
        **dict.fromkeys("“”„‟«»", '"'),
        "⁄": "/",
        "∕": "/",
        "∙": "·",
        "⋅": "·",
    }
)
_ARABIC = str.maketrans("٫٬", ".,")
_DIGIT = re.compile(r"(?![0-9])\d")
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]+")
_VULGAR = re.compile(r"(?<=\d)\s?(?=[¼-¾⅐-⅞])")
#: A dash before a digit is a minus where nothing stands before it that it could join.
_DASH_MINUS = re.compile(r"(?<![\w)%.])[–—](?=[\d.])|(?<=\bis )[-–—] (?=\d)")

_BREAK = re.compile(r"<(?:br|/p|/div|/li|/h[1-6])\b[^<>]{0,80}>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:b|strong|i|em|u|p|div|span|code|pre|mark|li|ul|ol|font|sub|h[1-6])\b[^<>]{0,80}>",
    re.IGNORECASE,
)
_RAISED_TAG = re.compile(r"<sup>([^<>]{1,12})</sup>", re.IGNORECASE)
#: Ends of turns that a server left in the text; what follows one is no part of the answer.
_TURN_END = re.compile(
    r"(?<=\S)\s*(?:<[|｜](?:im_end|eot_id|eom_id|endoftext|end_of_text|end▁of▁sentence)[|｜]>"
    r"|</s>|<(?:eos|end_of_turn)>).*",
    re.IGNORECASE | re.DOTALL,
)
_END_TOKEN = re.compile(r"<\|[a-z_]{2,20}\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]\n]{1,200})\]\([^()\s]{1,400}\)")
_UNDERLINED = re.compile(r"(?<![\w_])(_{1,3})(?=[^\s_])([^_\n]{1,200})(?<=\S)\1(?![\w_])")
_TIMES = re.compile(r"(?<=\d) ?\*{1,2} ?(?=\d)")
_EMPHASIS = str.maketrans(dict.fromkeys('*`“”"'))

_SPACING = re.compile(r"\\[,;:> ]|(?<=\d)~(?=\d)|\\(?:quad|qquad|thinspace)\b")
_NOTHING = re.compile(
    r"\\!|\\(?:left|right|displaystyle|textstyle|limits|bigl?|bigr|Bigl?|Bigr)(?![a-zA-Z])"
    r"|\\[()\[\]]|\$"
)
_WORDS = (
    *("text", "textbf", "textit", "textrm", "textsf", "texttt", "mathrm", "mathbf", "mathit"),
    *("mathsf", "mathtt", "mathbb", "mbox", "operatorname", "boldsymbol", "bold", "bm", "emph"),
    *("underline", "mathnormal"),
)
_WRAPPED = re.compile(rf"\\(?:{'|'.join(_WORDS)})\s?\{{([^{{}}]*)\}}")
_FRACTION = re.compile(r"(\d)?\\[dtc]?frac\s?(?:\{([^{}]*)\}|(\d))\s?(?:\{([^{}]*)\}|(\d))")
_OVER = re.compile(r"\{([^{}]{1,40})\\over\b([^{}]{1,40})\}")
_COMMANDS = {
    **{"times": "×", "cdot": "·", "div": "÷", "pi": "π", "sqrt": "√", "pm": "±", "infty": "∞"},
    **{"approx": "≈", "sim": "≈", "circ": "°", "degree": "°", "to": "→", "rightarrow": "→"},
    **{"leq": "≤", "geq": "≥", "neq": "≠", "ldots": "...", "dots": "...", "euro": "€"},
}
_COMMAND = re.compile(rf"\\({'|'.join(_COMMANDS)})(?![a-zA-Z])\s?")
_POWER = re.compile(r"\^\s?\{\s?([^{}\s]{1,12})\s?\}")
_DEPTH = 3


def without_markup(reply: str) -> str:
    """The text without markup and empty lines, its blanks joined.

    LaTeX becomes what it shows (1 3/4, 10^5); what is left of it is the frame of an answer.
    """
    text = _without_latex(normalised(reply)) if "\\" in reply or "$" in reply else normalised(reply)
    text = _UNDERLINED.sub(r"\2", _LINK.sub(r"\1", text))
    text = _TIMES.sub(lambda m: "^" if "**" in m[0] else "×", text).translate(_EMPHASIS)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(filter(None, lines))


def normalised(reply: str) -> str:
    """NFKC, without tags and characters that have no width; one sign for each minus and quote."""
    text = html.unescape(reply).replace("{,}", ",") if "&" in reply else reply.replace("{,}", ",")
    if not text.isascii():
        text = _DIGIT.sub(lambda m: str(int(m[0])), text.translate(_ARABIC))
        text = _VULGAR.sub(" ", _RAISED.sub(_raised, text))
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SILENT)
        text = _DASH_MINUS.sub("-", text.translate(_SIGNS))
    if "<" in text:
        text = _END_TOKEN.sub("", _TURN_END.sub("", text))
        text = _TAG.sub("", _RAISED_TAG.sub(r"^\1", _BREAK.sub("\n", text)))
    return _POWER.sub(r"^\1", text) if "^" in text else text


def _raised(found: re.Match[str]) -> str:
    return "^" + unicodedata.normalize("NFKC", found[0]).replace("−", "-")


def _without_latex(text: str) -> str:
    text = text.replace("\\%", "%").replace("\\$", "").replace("\\_", "_").replace("\\#", "#")
    text = _NOTHING.sub("", _SPACING.sub(" ", text))
    for _ in range(_DEPTH):
        before = text
        text = _FRACTION.sub(_fraction, _WRAPPED.sub(r"\1", _POWER.sub(r"^\1", text)))
        if text == before:
            break
    return _COMMAND.sub(lambda m: _COMMANDS[m[1]], _OVER.sub(r"\1/\2", text)).replace("^°", "°")


def _fraction(found: re.Match[str]) -> str:
    whole, above, short_above, below, short_below = found.groups()
    above, below = above or short_above or "", below or short_below or ""
    before = f"{whole} " if whole else ""
    return f"{before}{above.strip()}/{below.strip()}"
