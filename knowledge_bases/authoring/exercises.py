"""Arithmetic and elementary logic, made by rule.

Each family of exercises draws its operands at random and speaks in wordings that are divided
between the splits, so that a model trained on the train wordings meets the others for the first
time when it is tested. The logic can also be put in `varied` wordings, which are composed of
parts: a small model that reads few wordings ties its logic to their first words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random

Split = str  # "train", "validation", "test", or "varied" for logic


@dataclass(frozen=True)
class Exercise:
    """One multiple-choice exercise; `options[answer]` is right, the order of options is random."""

    question: str
    options: tuple[str, ...]
    answer: int


def arithmetic(rng: Random, split: Split) -> Exercise:
    """Sums and differences up to 20, products up to 9 × 9, comparisons up to 99."""
    return rng.choice(ARITHMETIC)(rng, split)


def logic(rng: Random, split: Split) -> Exercise:
    """Conditionals, chains of classes and orderings."""
    return rng.choice(LOGIC)(rng, split)


# --- arithmetic

_SUM = {
    "train": (
        "What is {a} + {b}?",
        "What is {a} plus {b}?",
        "What is the sum of {a} and {b}?",
        "Add {a} and {b}. What number do you get?",
        "{a} plus {b} is what number?",
        "Which number is equal to {a} + {b}?",
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have?",
        "If {name} adds {b} {things} to {a} {things}, how many {things} are there?",
    ),
    "validation": ("What number do you get when you add {b} to {a}?",),
    "test": ("If you add {a} and {b}, what is the sum?",),
}
_DIFFERENCE = {
    "train": (
        "What is {a} - {b}?",
        "What is {a} minus {b}?",
        "What is the difference of {a} and {b}?",
        "Take {b} away from {a}. What number is left?",
        "{a} minus {b} is what number?",
        "Which number is equal to {a} - {b}?",
        "{name} has {a} {things} and gives {b} away. How many {things} are left?",
        "If {name} takes {b} {things} from {a} {things}, how many {things} are left?",
    ),
    "validation": ("What number is left when you take {b} from {a}?",),
    "test": ("If you take {b} away from {a}, what is left?",),
}
_PRODUCT = {
    "train": (
        "What is {a} * {b}?",
        "What is {a} times {b}?",
        "What is the product of {a} and {b}?",
        "Multiply {a} by {b}. What number do you get?",
        "{a} times {b} is what number?",
        "Which number is equal to {a} * {b}?",
        "{name} has {a} bags with {b} {things} in each bag. How many {things} does {name} have?",
        "If there are {b} {things} in each of {a} bags, how many {things} are there?",
    ),
    "validation": ("What number do you get when you multiply {a} by {b}?",),
    "test": ("If you multiply {a} and {b}, what is the product?",),
}
_LARGER = {
    "train": (
        "Which number is larger, {a} or {b}?",
        "Of {a} and {b}, which number is larger?",
        "Which is the larger number, {a} or {b}?",
        "{name} has {a} {things} and {other} has {b} {things}. What is the larger number?",
    ),
    "validation": ("What is the larger number, {a} or {b}?",),
    "test": ("Of the numbers {a} and {b}, which is larger?",),
}
_NAMES = (
    *("Anna", "Ben", "Carl", "Dora", "Emil", "Fay"),
    *("Gus", "Ida", "Kim", "Leo", "Mia", "Otto"),
)
_THINGS = ("apples", "books", "coins", "pens", "stones", "eggs", "cards", "shells")


def _sum(rng: Random, split: Split) -> Exercise:
    a = rng.randint(0, 20)
    b = rng.randint(0, 20 - a)
    return _numeric(rng, _SUM[split], a, b, a + b)


def _difference(rng: Random, split: Split) -> Exercise:
    a = rng.randint(0, 20)
    b = rng.randint(0, a)
    return _numeric(rng, _DIFFERENCE[split], a, b, a - b)


def _product(rng: Random, split: Split) -> Exercise:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    return _numeric(rng, _PRODUCT[split], a, b, a * b)


def _larger(rng: Random, split: Split) -> Exercise:
    a, b = rng.sample(range(1, 100), 2)
    while str(a).startswith(str(b)) or str(b).startswith(str(a)):
        a, b = rng.sample(range(1, 100), 2)
    question = _fill(rng, _LARGER[split], a, b)
    return _shuffled(rng, question, str(max(a, b)), [str(min(a, b))])


def _numeric(rng: Random, wordings: tuple[str, ...], a: int, b: int, result: int) -> Exercise:
    """Wrong options lie near the result; none begins with another's digits.

    Where one option continues another (1 and 12), the likelihood of the first contains that of
    the second, and a comparison of likelihoods says nothing.
    """
    near = [n for n in range(max(0, result - 12), result + 13) if n != result]
    rng.shuffle(near)
    chosen = [str(result)]
    for number in map(str, near):
        if not any(number.startswith(c) or c.startswith(number) for c in chosen):
            chosen.append(number)
        if len(chosen) == 4:
            break
    return _shuffled(rng, _fill(rng, wordings, a, b), chosen[0], chosen[1:])


def _fill(rng: Random, wordings: tuple[str, ...], a: int, b: int) -> str:
    name, other = rng.sample(_NAMES, 2)
    things = rng.choice(_THINGS)
    return rng.choice(wordings).format(a=a, b=b, name=name, other=other, things=things)


# --- logic

_CONDITIONAL = {
    "train": (
        "If {p}, then {q}. {fact}. What follows?",
        "{q_cap} if {p}. {fact}. What follows from this?",
        "Whenever {p}, {q}. Now {fact_low}. What can we conclude?",
        "We know that if {p}, then {q}. We also know that {fact_low}. What must be true?",
        "Premises: if {p}, then {q}; {fact_low}. What is the conclusion?",
        "Suppose that {q} whenever {p}. {fact}. What must be true?",
    ),
    "validation": ("Whenever {p}, {q}. {fact}. What is the conclusion?",),
    "test": ("Suppose that if {p}, then {q}. Now {fact_low}. What follows from this?",),
}
_CHAIN = {
    "train": (
        "{chain} {name} is a {a}. What must {name} be?",
        "{chain} If {name} is a {a}, what else is {name}?",
        "We know: {chain} {name} is a {a}. What follows for {name}?",
        "{name} is a {a}. {chain} What else is {name}?",
        "Suppose that {name} is a {a}. {chain} What must {name} be?",
        "Premises: {chain} What is every {a}?",
    ),
    "validation": ("We know that {name} is a {a}. {chain} What must {name} be?",),
    "test": ("Suppose: {chain} {name} is a {a}. What else must {name} be?",),
}
_ORDER = {
    "train": (
        "{order} Who is the {most}?",
        "{order} Who of them is the {most}?",
        "We know: {order} Which of them is the {most}?",
        "Suppose that this is true: {order} Who must be the {most}?",
        "Premises: {order} Who is the {most} of the three?",
        "Of three people, we know: {order} Who is the {most}?",
    ),
    "validation": ("We know: {order} Who must be the {most}?",),
    "test": ("Suppose: {order} Which of the three is the {most}?",),
}
# The parts of which the varied wordings are composed.
_OPENERS = ("", "Suppose: ", "We know: ", "Premises: ", "Given: ", "Suppose that this is true: ")
_RULES = (
    *("if {p}, then {q}", "whenever {p}, {q}", "{q} if {p}", "{q} whenever {p}"),
    *("suppose that if {p}, then {q}", "suppose that whenever {p}, {q}"),
    *("suppose that {q} if {p}", "suppose that {q} whenever {p}"),
    *("we know that if {p}, then {q}", "we know that whenever {p}, {q}"),
    *("we know that {q} if {p}", "we know that {q} whenever {p}"),
)
_GIVENS = (
    *("{fact}.", "Now {fact_low}.", "We also know that {fact_low}.", "And {fact_low}."),
    "It turns out that {fact_low}.",
)
_CONCLUSIONS = (
    *("What follows?", "What follows from this?", "What must be true?"),
    *("What can we conclude?", "What is the conclusion?", "What do we know then?"),
)
_MEMBERS = (
    *("{chain} {name} is a {a}.", "{name} is a {a}. {chain}"),
    *("{chain} We know that {name} is a {a}.", "{chain} Suppose that {name} is a {a}."),
)
_KIND_QUESTIONS = (
    *("What must {name} be?", "What else is {name}?", "What follows for {name}?"),
    *("What else must {name} be?", "What is {name} then?"),
)
_RANK_QUESTIONS = (
    *("Who is the {most}?", "Who of them is the {most}?", "Which of them is the {most}?"),
    *("Who must be the {most}?", "Which of the three is the {most}?"),
    *("Who is the {most} of the three?", "Which of these people is the {most}?"),
)
_CLAUSES = (
    ("it rains", "it does not rain"),
    ("the street is wet", "the street is not wet"),
    ("the lamp is on", "the lamp is not on"),
    ("the door is open", "the door is not open"),
    ("the bell rings", "the bell does not ring"),
    ("the dog barks", "the dog does not bark"),
    ("the cat sleeps", "the cat does not sleep"),
    ("the river is high", "the river is not high"),
)
_KINDS = (
    *("wug", "dax", "fep", "blick", "zorp", "tove"),
    *("mip", "gax", "lorn", "quib", "vant", "drub"),
)
_SCALES = (
    ("taller", "tallest", "shortest"),
    ("older", "oldest", "youngest"),
    ("faster", "fastest", "slowest"),
    ("stronger", "strongest", "weakest"),
)
NOTHING = "nothing follows"


def _conditional(rng: Random, split: Split) -> Exercise:
    """Modus ponens and modus tollens, and the two fallacies that look like them."""
    (p, not_p), (q, not_q) = rng.sample(_CLAUSES, 2)
    fact, answer = rng.choice(((p, q), (not_q, not_p), (q, NOTHING), (not_p, NOTHING)))
    options = [o for o in (p, not_p, q, not_q, NOTHING) if o not in (fact, answer)]
    question = rng.choice(_wordings(_CONDITIONAL, split)).format(
        p=p, q=q, q_cap=_capital(q), fact=_capital(fact), fact_low=fact
    )
    return _shuffled(rng, question, answer, options)


def _chain(rng: Random, split: Split) -> Exercise:
    """Every a is a b, every b is a c; a second chain is there to mislead."""
    a, b, c, d, e, f = rng.sample(_KINDS, 6)
    steps = [f"Every {a} is a {b}.", f"Every {b} is a {c}."]
    if rng.random() < 0.5:
        steps.append(f"Every {d} is a {e}.")
    rng.shuffle(steps)
    question = rng.choice(_wordings(_CHAIN, split)).format(
        chain=" ".join(steps), name=rng.choice(_NAMES), a=a
    )
    return _shuffled(rng, question, rng.choice((b, c)), [d, e, f])


def _order(rng: Random, split: Split) -> Exercise:
    first, second, third, absent = rng.sample(_NAMES, 4)
    more, most, least = rng.choice(_SCALES)
    steps = [f"{first} is {more} than {second}.", f"{second} is {more} than {third}."]
    rng.shuffle(steps)
    top = rng.random() < 0.5
    question = rng.choice(_wordings(_ORDER, split)).format(
        order=" ".join(steps), most=most if top else least
    )
    wrong = [second, absent, third if top else first]
    return _shuffled(rng, question, first if top else third, wrong)


def _wordings(family: dict[str, tuple[str, ...]], split: Split) -> tuple[str, ...]:
    return family[split] if split in family else _varied(*family["validation"], *family["test"])


@cache
def _varied(*held_out: str) -> tuple[str, ...]:
    """All compositions for the family that the held-out wordings belong to, but for these."""
    if "{order}" in held_out[0]:
        parts: tuple[tuple[str, ...], ...] = (_OPENERS, ("{order} ",), _RANK_QUESTIONS)
    elif "{chain}" in held_out[0]:
        parts = (_OPENERS, tuple(member + " " for member in _MEMBERS), _KIND_QUESTIONS)
    else:
        rules = tuple(_sentence(rule) + ". " for rule in _RULES)
        parts = (rules, tuple(given + " " for given in _GIVENS), _CONCLUSIONS)
    composed = ("".join(choice) for choice in product(*parts))
    return tuple(wording for wording in composed if wording not in held_out)


def _sentence(rule: str) -> str:
    return "{q_cap}" + rule[3:] if rule.startswith("{q}") else _capital(rule)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _shuffled(rng: Random, question: str, right: str, wrong: list[str]) -> Exercise:
    options = [right, *wrong]
    rng.shuffle(options)
    return Exercise(question, tuple(options), options.index(right))


ARITHMETIC: tuple[Callable[[Random, Split], Exercise], ...] = (
    *(_sum, _sum, _difference, _difference, _product, _product),
    _larger,
)
LOGIC: tuple[Callable[[Random, Split], Exercise], ...] = (_conditional, _chain, _order)
