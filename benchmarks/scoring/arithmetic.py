"""Countdown: an expression of given numbers that makes a target, read without evaluating code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.scoring.replies.reading import Reading
from benchmarks.scoring.scorer import Scorer

#: Characters of an expression, and digits of a number, at most: larger ones are no answer.
_LONGEST, _DIGITS = 200, 6
_EXPRESSION = re.compile(r"[0-9 ()+\-*/]+")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
_MARK = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Expression:
    """The exact value of an expression, and the numbers in it, sorted."""

    value: Fraction
    numbers: tuple[int, ...]


def read_expression(text: str) -> Expression | None:
    """Read whole numbers joined by + - * / and parentheses; None for all else.

    No powers, no decimals, no signs before a number, no division by zero.
    """
    text = text.translate(_SIGNS).strip()
    if len(text) > _LONGEST or not _EXPRESSION.fullmatch(text):
        return None
    try:
        return _of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _of(node: ast.expr) -> Expression:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        if len(str(node.value)) > _DIGITS:
            raise ValueError("too large")
        return Expression(Fraction(node.value), (node.value,))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _of(node.left), _of(node.right)
        value = _OPERATIONS[type(node.op)](left.value, right.value)
        return Expression(value, tuple(sorted(left.numbers + right.numbers)))
    raise ValueError("no arithmetic")


def find_expression(reply: str) -> Reading | None:
    """The expression after the last `<answer>`, else on the last line, up to an equals sign."""
    marked = _MARK.findall(reply)
    lines = (marked[-1] if marked else reply).strip().splitlines()
    said = lines[-1].partition("=")[0].strip() if lines else ""
    found = read_expression(said)
    return None if found is None else Reading(said, "<answer>" if marked else "last line", found)


#: Right where the reply uses the numbers of the reference, each once, and has its value.
COUNTDOWN_SCORER = Scorer(
    name="countdown",
    extract=lambda question, reply: find_expression(reply),
    matches=lambda question, found: found.raw == read_expression(str(question.answer)),
)
