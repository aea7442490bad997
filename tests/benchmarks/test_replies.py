"""Replies as models write them, and what must be read out of them."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.scoring.replies.numbers import as_number, extract_number, plain_numbers
from benchmarks.scoring.replies.option_letters import extract_letter
from benchmarks.scoring.replies.reading import Reading
from benchmarks.scoring.replies.texts import extract_text, same_text
from benchmarks.scoring.replies.thoughts import separate_thought, split_thought
from benchmarks.scoring.scorer import BY_REFERENCE
from domainlift.types import Question
from engines.base import Answer

CITIES = ("Paris", "Rome", "Berlin", "Oslo")


def answer_of(found: Reading | None) -> int | str | None:
    return None if found is None else found.answer


LETTERS = [
    # the letter alone
    ("B", 1),
    (" B", 1),
    ("B\n", 1),
    ("b", 1),
    ("(b)", 1),
    ("(B)", 1),
    ("[B]", 1),
    ("B.", 1),
    ("B)", 1),
    ("**B**", 1),
    ("**B.**", 1),
    ("`B`", 1),
    ("$B$", 1),
    ('"B"', 1),
    ("✅ B", 1),
    ("Option B", 1),
    ("option b", 1),
    ("A", 0),
    ("a", 0),
    ("A!", 0),
    # the letter with its text
    ("B) Rome", 1),
    ("B. Rome", 1),
    ("B: Rome", 1),
    ("B - Rome", 1),
    ("B – Rome", 1),
    ("B, because it lies on the Tiber", 1),
    ("(B) Rome", 1),
    ("b) rome", 1),
    ("b. rome", 1),
    ("**B) Rome**", 1),
    ("- B) Rome", 1),
    ("> B) Rome", 1),
    ("A. Paris", 0),
    ("B\n\nRome lies on the Tiber.", 1),
    ("B. Rome\nBecause it lies on the Tiber.", 1),
    # said in a sentence
    ("The correct answer is (B).", 1),
    ("The correct answer is B", 1),
    ("The correct answer is **B**.", 1),
    ("The correct answer is: B", 1),
    ("The correct answer is:\n\nB) Rome", 1),
    ("The correct answer is **B) Rome**.", 1),
    ("The answer is A.", 0),
    ("The answer is A because it is the largest", 0),
    ("The answer is (A) Paris", 0),
    ("The answer is b.", 1),
    ("the answer is a", 0),
    ("The answer is option B.", 1),
    ("The answer is the option B.", 1),
    ("The answer would be C", 2),
    ("The best answer is therefore D.", 3),
    ("The answer to this question is C.", 2),
    ("The correct option is C", 2),
    ("The right choice is C.", 2),
    ("Answer: C", 2),
    ("answer: c", 2),
    ("ANSWER: C", 2),
    ("**Answer:** C", 2),
    ("**Answer: C**", 2),
    ("## Answer\n\nC", 2),
    ("Answer: (C) Berlin", 2),
    ("Final answer: C", 2),
    ("Final Answer:\nC", 2),
    ("Answer C", 2),
    ('{"answer": "C"}', 2),
    ("<answer>C</answer>", 2),
    ("<answer> (c) </answer>", 2),
    ("I think it's D because of the fjord", 3),
    ("I think it’s D because of the fjord", 3),
    ("I would choose (D).", 3),
    ("I'd go with D", 3),
    ("I believe the answer is D, not A.", 3),
    ("(D) is the correct answer.", 3),
    ("Option D is correct.", 3),
    ("D is correct", 3),
    ("A is correct", 0),
    # LaTeX
    ("\\boxed{A}", 0),
    ("$\\boxed{A}$", 0),
    ("The answer is $\\boxed{A}$.", 0),
    ("\\boxed{\\text{A}}", 0),
    ("\\boxed{\\text{(A)}}", 0),
    ("\\boxed{A. Paris}", 0),
    ("So \\[\\boxed{C}\\] and not A.", 2),
    # reasoning first
    ("Paris is in France. Rome is in Italy. So the answer is B.", 1),
    ("Let us see.\n\nThe Tiber flows through Rome.\n\n**B**", 1),
    ("The answer is A. No, wait: the answer is B.", 1),
    ("A. Paris: no.\nB. Rome: yes.\nSo the correct answer is B.", 1),
    ("A. First, Paris is no port. The answer is D.", 3),
    ("Option A is wrong. Option B is correct.", 1),
    ("The answer is B, and A is wrong.", 1),
    ("The answer is not A. The answer is B.", 1),
    # the option's text
    ("Rome", 1),
    ("rome.", 1),
    ("**Rome**", 1),
    ("It is Rome.", 1),
    ("The capital of Italy is Rome, of course.", 1),
    ("Rome\nParis is the capital of France.", 1),
    ("Rome Rome Rome", 1),
    ("Answer: Rome", 1),
    # what says nothing, or two things
    ("", None),
    ("   \n\t ", None),
    ("?", None),
    ("🤷", None),
    ("A or B", None),
    ("A/B", None),
    ("Either A or B", None),
    ("Both A and B", None),
    ("A, B and D", None),
    ("A, B, or C?", None),
    ("The answer is A or B.", None),
    ("The answer is either A or B.", None),
    ("The answer is A/B.", None),
    ("The answer is A, B and C.", None),
    ("(A) or (B) is correct", None),
    ("I would say A or C.", None),
    ("None of the above", None),
    ("All of the above.", None),
    ("As a language model, I cannot answer", None),
    ("As a language model I can't answer A or B", None),
    ("A cat sat on the mat", None),
    ("Answer: A small city by the sea", None),
    ("The answer is A matter of taste", None),
    ("the answer is a matter of taste", None),
    ("I am not sure.", None),
    ("I don't know", None),
    ("D-Day was in 1944", None),
    ("B2B", None),
    ("C# is a language", None),
    ("A.I. is not allowed to say", None),
    ("E", None),
    ("The answer is E.", None),
    ("It is Paris or Rome", None),
    ("It is not Paris", None),
    ("It isn't Paris", None),
    ("Parisian", None),
    ("A. Paris\nB. Rome\nC. Berlin\nD. Oslo", None),
    # more signs and markup
    ("Ｂ", 1),
    ("Ⓑ", 1),
    ("B\ufe0f", 1),
    ("\u200bB", 1),
    ("***B***", 1),
    ("_B_", 1),
    ("__B__", 1),
    ("<b>B</b>", 1),
    ("<p>B</p>", 1),
    ("[[B]]", 1),
    ("{{B}}", 1),
    ("“B”", 1),
    ("«B»", 1),
    ("B。", 1),
    ("### B", 1),
    ("B&nbsp;", 1),
    ("\\(B\\)", 1),
    ("\\[ B \\]", 1),
    ("$$B$$", 1),
    ("\\text{B}", 1),
    ("\\mathbf{B}", 1),
    ("\\boxed{\\textbf{B}}", 1),
    ("\\boxed{\\mathrm{(B)}}", 1),
    ("\\boxed{\\text{Option B}}", 1),
    ("\\boxed{\\text{B. Rome}}", 1),
    ("\\fbox{B}", 1),
    ("The answer is \\( \\boxed{b} \\).", 1),
    ("The answer is **Option B: Rome**", 1),
    ("The correct answer is:\n\n**B. Rome**", 1),
    ("The correct answer is option (B).", 1),
    ("The correct choice is B", 1),
    ("Correct option: B", 1),
    ("My answer: B.", 1),
    ("Answer -> B", 1),
    ("Answer => B", 1),
    ('Answer: "B"', 1),
    ("answer=B", 1),
    ("Choice: B", 1),
    ('{"choice": "B"}', 1),
    ('{"answer": "B", "reason": "A is in France"}', 1),
    ("<final_answer>B</final_answer>", 1),
    ("<choice>B</choice>", 1),
    ("B because it lies on the Tiber", 1),
    ("Therefore, B.", 1),
    ("Paris is in France; thus (B).", 1),
    ("So B", 1),
    ("It lies on the Tiber. Hence the correct answer is (B) Rome.", 1),
    ("A is incorrect. B is correct.", 1),
    ("Die richtige Antwort ist B.", 1),
    ("Antwort: B", 1),
    ("La respuesta correcta es (B).", 1),
    ("Réponse : B", 1),
    ("A resposta é B.", 1),
    ("La risposta corretta è B", 1),
    ("答案是B", 1),
    ("答案：B", 1),
    ("正解は B", 1),
    ("Ответ: B", 1),
    ("(A) and (C) are wrong. So the answer must be (B).", 1),
    ("Between B and C, the answer is C.", 2),
    ("A or B? The answer is B.", 1),
    ("The answer is A & B.", None),
    ("So A or B.", None),
    ("The answer is neither A nor B.", None),
    ("A and B are both possible", None),
    ("Therefore a small city", None),
    ("The answer is 'B'", 1),
    ("It must be B.", 1),
    ("<ans>B</ans>", 1),
    ("[ANSWER]B[/ANSWER]", 1),
    ("Die Antwort lautet B.", 1),
    ("回答：B", 1),
    ("The letter is B", 1),
    ("The answer is most likely B", 1),
    ("The answer is probably B.", 1),
    ("Response: B", 1),
    ("correct: B", 1),
    ("B<|im_end|>", 1),
    ("B</s>", 1),
    ("The answer is B's neighbour", None),
    ("A) Paris is wrong. B) Rome is right.", None),
    ("Not A, but B", None),
    # taken back, denied, in other languages, and where a server left the next turn in the text
    ("B... no, C", None),
    ("B. Wait, no, C.", None),
    ("B. Actually, C.", None),
    ("B, or maybe C", None),
    ("Rome is not the answer", None),
    ("Rome isn't it", None),
    ("Not the answer: B", None),
    ("Svar: B", 1),
    ("الجواب: B", 1),
    ("उत्तर: B", 1),
    ("Đáp án: B.", 1),
    ("答案為B", 1),
    ("故选B", 1),
    ("正解はBです", 1),
    ("정답은 B입니다.", 1),
    ("<SOLUTION>B</SOLUTION>", 1),
    ("B<|im_end|>\n<|im_start|>user\nAnswer: C", 1),
]


@pytest.mark.parametrize(("reply", "meant"), LETTERS)
def test_a_letter_is_read_or_the_reply_is_unparsed(reply: str, meant: int | None) -> None:
    assert answer_of(extract_letter(reply, CITIES)) == meant


OPTIONS = [
    ("Answer: A dog", ("A cat", "A dog"), 1),
    ("A dog", ("A cat", "A dog"), 1),
    ("None of the above", ("one", "two", "None of the above"), 2),
    ("Paris, Texas", ("Paris", "Paris, Texas"), 1),
    ("It is Paris, Texas", ("Paris", "Paris, Texas"), 1),
    ("It is 3.5", ("3", "3.5"), 1),
    ("yes", ("Yes", "yes.", "no"), None),
    ("C++", ("Java", "C++"), 1),
    ("x", ("...", "?"), None),
    ("", ("...", "?"), None),
    ("B", ("x", "y"), 1),
    ("anything", (), None),
    ("J", tuple("qwertzuiop"), 9),
    ("I think so", tuple("1234567890"), None),
    ("I", tuple("1234567890"), 8),
    ("$x^2$", ("x^2", "x^3"), 0),
    ("x²", ("$x^2$", "$x^3$"), 0),
    ("\\frac{1}{2}", ("1/2", "1/3"), 0),
    ("**New York**", ("new york", "York"), 0),
    ("Crème brûlée", ("Cre\u0300me bru\u0302le\u0301e", "Flan"), 0),
    ("It is not Rome but Paris", ("Paris", "Rome"), None),
]


@pytest.mark.parametrize(("reply", "options", "meant"), OPTIONS)
def test_an_option_is_known_by_its_text(
    reply: str, options: tuple[str, ...], meant: int | None
) -> None:
    assert answer_of(extract_letter(reply, options)) == meant


NUMBERS = [
    ("42", "42"),
    ("#### 1,234", "1234"),
    ("####42", "42"),
    ("#### -5", "-5"),
    ("16 - 3 = 13, so he sells 13.\n#### 26", "26"),
    ("#### 26\nOr 27, perhaps", "26"),
    ("$5.00", "5"),
    ("$1,200.50", "1200.5"),
    ("€7", "7"),
    ("-3", "-3"),
    ("−3", "-3"),
    ("+3", "3"),
    ("3/4", "0.75"),
    ("1/3", "1/3"),
    ("1/0", None),
    (".5", "0.5"),
    ("0.50", "0.5"),
    ("007", "7"),
    ("-0.0", "0"),
    ("100", "100"),
    ("50%", "50"),
    ("The answer is 42.", "42"),
    ("The answer is **42**.", "42"),
    ("**Answer:** $42", "42"),
    ("The final answer is: 42, as step 3 shows", "42"),
    ("The answer is 20/4 + 1 = 6", "6"),
    ("The answer is 12 + 30 = 42.", "42"),
    ("\\boxed{42}", "42"),
    ("\\boxed{\\$42}", "42"),
    ("In step 3: $\\boxed{1,042}$ (see 7)", "1042"),
    ("12 apples and 5 pears", "5"),
    ("10 - 3 = 7", "7"),
    ("10-3", None),
    ("1, 2, 3", "3"),
    ("It costs 1,234,567 dollars.", "1234567"),
    ("5kg", "5"),
    ("", None),
    ("none", None),
    ("🤷", None),
    ("9" * 101, None),
    # LaTeX
    ("\\boxed{1{,}200}", "1200"),
    ("\\boxed{1\\,200}", "1200"),
    ("\\boxed{1,\\!200}", "1200"),
    ("\\boxed{12~345}", "12345"),
    ("\\boxed{\\frac{3}{4}}", "0.75"),
    ("\\boxed{\\dfrac{3}{4}}", "0.75"),
    ("\\boxed{\\tfrac34}", "0.75"),
    ("\\boxed{\\frac 3 4}", "0.75"),
    ("\\boxed{-\\frac{3}{4}}", "-0.75"),
    ("\\boxed{\\frac{-3}{4}}", "-0.75"),
    ("\\boxed{1\\frac{3}{4}}", "1.75"),
    ("\\boxed{{3 \\over 4}}", "0.75"),
    ("\\boxed{x = 5}", "5"),
    ("\\boxed{5 \\text{ km}}", "5"),
    ("\\boxed{25\\,\\text{cm}^2}", "25"),
    ("\\boxed{\\text{5 apples}}", "5"),
    ("\\boxed{50\\%}", "50"),
    ("\\boxed{90^\\circ}", "90"),
    ("\\boxed{2^{10}}", "1024"),
    ("\\boxed{1.5 \\times 10^{6}}", "1500000"),
    ("\\boxed{\\left(5\\right)}", "5"),
    ("\\boxed 7", "7"),
    ("\\fbox{7}", "7"),
    ("The answer is \\(42\\).", "42"),
    ("The answer is \\[ 42 \\]", "42"),
    ("$$x = \\frac{1}{3}$$", "1/3"),
    ("\\boxed{3\\pi}", None),
    ("\\boxed{\\sqrt{2}}", None),
    ("\\boxed{2\\sqrt{3}}", None),
    ("\\boxed{12, 13}", None),
    ("\\boxed{3 + 4}", None),
    ("\\boxed{x = 3 \\text{ or } x = 5}", None),
    ("\\boxed{(3,5)}", None),
    # thousands and decimals
    ("1 200", "1200"),
    ("1\u2009200", "1200"),
    ("1\u202f234\u202f567", "1234567"),
    ("1\u00a0200,50", "1200.5"),
    ("1'200", "1200"),
    ("1’234’567.5", "1234567.5"),
    ("1_000_000", "1000000"),
    ("1.234.567", "1234567"),
    ("1.234,56", "1234.56"),
    ("12,34,567", "1234567"),
    ("3,5", "3.5"),
    ("0,125", "0.125"),
    ("3,14159", "3.14159"),
    ("1,234", "1234"),
    ("1.234", "1.234"),
    ("１２３", "123"),
    ("Es kostet 12,50 €.", "12.5"),
    # fractions, powers and words
    ("½", "0.5"),
    ("2½", "2.5"),
    ("2 ½", "2.5"),
    ("3⁄4", "0.75"),
    ("1 3/4", "1.75"),
    ("2 and 1/2", "2.5"),
    ("22/7", "22/7"),
    ("3 / 4", "0.75"),
    ("1e5", "100000"),
    ("1E-3", "0.001"),
    ("1.5e6", "1500000"),
    ("1.5 × 10^6", "1500000"),
    ("1.5 x 10^-3", "0.0015"),
    ("2 · 10⁵", "200000"),
    ("10⁵", "100000"),
    ("10<sup>5</sup>", "100000"),
    ("2^10", "1024"),
    ("2**3", "8"),
    ("5 million", "5000000"),
    ("2.5 million people", "2500000"),
    ("$1.2 billion", "1200000000"),
    ("$5M", "5000000"),
    ("€1.5bn", "1500000000"),
    ("$40K", "40000"),
    ("40k", "40000"),
    ("3 thousand", "3000"),
    ("2 dozen", "24"),
    ("3 lakh", "300000"),
    ("300 K", "300"),
    ("2 * 3 = 6", "6"),
    ("twelve", "12"),
    ("Twenty-one.", "21"),
    ("The answer is one hundred and five.", "105"),
    ("two million", "2000000"),
    ("minus seven", "-7"),
    # signs, money and units
    ("–3", "-3"),
    ("﹣3", "-3"),
    ("－3", "-3"),
    ("‑3", "-3"),
    ("minus 3", "-3"),
    ("negative 3", "-3"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    ("x = - 5", "-5"),
    ("-1/2", "-0.5"),
    ("USD 5", "5"),
    ("5 USD", "5"),
    ("US$5", "5"),
    ("5 €", "5"),
    ("£5.50", "5.5"),
    ("₹1,00,000", "100000"),
    ("5 cm^2", "5"),
    ("5 m²", "5"),
    ("5 km/h", "5"),
    ("37°C", "37"),
    ("50 percent", "50"),
    ("12.5 %", "12.5"),
    # said in a sentence
    ("Answer: 42", "42"),
    ("Final answer: **42**", "42"),
    ("<answer>42</answer>", "42"),
    ('{"answer": 42}', "42"),
    ("The answer is approximately 42.", "42"),
    ("The answer is: $42 = 6 * 7$", "42"),
    ("Die Antwort ist 42.", "42"),
    ("答案是42", "42"),
    ("So x = 5.", "5"),
    ("10 - 3 = 7, and the answer is 7 apples", "7"),
    ("He ran 2 miles in 30 minutes", "30"),
    ("2 hours 30 minutes = 150 minutes", "150"),
    ("2 hours + 30 minutes = 150", "150"),
    ("5 minutes", "5"),
    ("3*4 = 12", "12"),
    ("- 5 apples", "5"),
    # what says two things, or no number
    ("3 or 4", None),
    ("The answer is 3 or 4.", None),
    ("The answer is 3–4.", None),
    ("between 3 and 4", None),
    ("3-5", None),
    ("10:30", None),
    ("2024-01-05", None),
    ("12/05/2024", None),
    ("1,2,3", None),
    # a quantity in parts
    ("2 hours 30 minutes", None),
    ("2 hours and 30 minutes.", None),
    ("The answer is 2 hours 30 minutes.", None),
    ("#### 2 h 30 min", None),
    ("\\boxed{2 \\text{ hours } 30 \\text{ minutes}}", None),
    ("150 minutes (2 hours 30 minutes)", None),
    ("1 day, 3 hours, and 4 minutes", None),
    ("2h30", None),
    ("2 Std. 30 Min.", None),
    ("2小时30分钟", None),
    ("5 feet 11 inches", None),
    ("5 ft 11 in", None),
    ("3 pounds 4 ounces", None),
    ("10 km 500 m", None),
    ("1 dollar and 50 cents", None),
    ("$1 and 50 cents", None),
    ("30° 15'", None),
    ("2 million 500 thousand", None),
    ("3 dozen and 2 eggs", None),
    ("2 hours and a half", None),
    ("The answer is 2 and a half.", None),
    ("3.11.2", None),
    ("192.168.0.1", None),
    ("The result is 12 + 30", None),
    ("3π", None),
    ("3x", None),
    ("5 ± 0.1", None),
    ("one of them", None),
    ("1.2K followers", None),
    ("5 dollars, not 6", None),
    ("H2O", None),
    ("1e999", None),
    # other digits and separators, and words of other languages
    ("٣٫٥", "3.5"),
    ("١٬٢٣٤", "1234"),
    ("४२", "42"),
    ("5万", "50000"),
    ("5万円", "50000"),
    ("5万3千", None),
    ("3億", "300000000"),
    ("2,5 Mrd", "2500000000"),
    ("5 Milliarden", "5000000000"),
    ("5 milliards", "5000000000"),
    ("5 mil millones", "5000000000"),
    ("5 mil", None),
    ("5 Tausend", "5000"),
    ("5 thousand million", "5000000000"),
    # powers without a backslash, and a blank after a minus
    ("2^{10}", "1024"),
    ("2.5×10^{−6}", "0.0000025"),
    ("2.5 X 10^6", "2500000"),
    ("2.5 times 10^6", "2500000"),
    ("The answer is − 5.", "-5"),
    # parts of a formula, a range, a list or a name
    ("x/2", None),
    ("n+1", None),
    ("\\boxed{\\frac{\\pi}{4}}", None),
    ("\\boxed{n+1}", None),
    ("\\sqrt[3]{8}", None),
    ("sin(30)", None),
    ("\\log_2 8", None),
    ("0x10", None),
    ("5 to 6", None),
    ("5~6", None),
    ("5..6", None),
    ("5 and 6", None),
    ("5 6", None),
    ("1 over 2", None),
    ("The answer is 5 and 6", None),
    ("isn't 5", None),
    ("COVID-19", None),
    ("5 cases of COVID-19", "5"),
    # what is cited, or explains
    ("1969 [2]", "1969"),
    ("1969 [1][2].", "1969"),
    ("In 1969【1】", "1969"),
    ("It is 10. [1, 2]", "10"),
    ("1969 (Passage 2)", "1969"),
    ("5 apples [1]", "5"),
    ("So it is [10]", "10"),
    ("5\n\nExplanation:\n1. Add 2 and 3.\n2. Done.", "5"),
    ("5\n(see page 12)", "5"),
    ("5\nWait, it must be 6.", None),
    ("5<|im_end|>\n<|im_start|>user\nWhat is 7?", "5"),
    ("5</s><s>[INST] 7", "5"),
]


@pytest.mark.parametrize(("reply", "meant"), NUMBERS)
def test_a_number_is_read_or_the_reply_is_unparsed(reply: str, meant: str | None) -> None:
    assert answer_of(extract_number(reply)) == meant


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("18", "18"),
        ("$1,200.50", "1200.5"),
        ("3/4", "0.75"),
        (" 18. ", "18"),
        ("1e999999999", None),
        ("Infinity", None),
        ("nan", None),
        ("1, 2, 3", None),
        ("12 34", None),
        ("12,34", "12.34"),
        ("5 apples", None),
        ("x", None),
        ("", None),
        ("1 200", "1200"),
        ("5 dollars", "5"),
        ("$2.5 million", "2500000"),
        ("50 %", "50"),
        ("\\frac{1}{3}", "1/3"),
        ("twelve", "12"),
        ("3 or 4", None),
        ("1999–2003", None),
        ("one and only", None),
        ("1/0", None),
        ("2^9999", None),
    ],
)
def test_only_one_number_is_a_number(text: str, plain: str | None) -> None:
    assert as_number(text) == plain


SAME = [
    # a reply, the reference, whether it is right
    ("Paris.", "Paris", True),
    ("paris", "Paris", True),
    ("PARIS!", "Paris", True),
    ("**Oslo**", "Oslo", True),
    ("_Oslo_", "Oslo", True),
    ("`Oslo`", "Oslo", True),
    ("# Oslo", "Oslo", True),
    ("<b>Oslo</b>", "Oslo", True),
    ("[Oslo](https://no.example)", "Oslo", True),
    ("“Oslo”", "Oslo", True),
    ("'Oslo'", "Oslo", True),
    ("> Oslo", "Oslo", True),
    ("- Oslo", "Oslo", True),
    ("The Beatles", "Beatles", True),
    ("Beatles", "The Beatles", True),
    ("an apple", "apple", True),
    ("Cafe\u0301", "Café", True),
    ("ﬁne", "fine", True),
    ("ＵＳＡ", "USA", True),
    ("STRASSE", "Straße", True),
    ("New\u00a0York", "New York", True),
    ("New  York", "New York", True),
    ("soft\u00adware", "software", True),
    ("well-known", "well known", True),
    ("T-cell", "T cell", True),
    ("Newton's law", "Newton’s law", True),
    ("Newtons law", "Newton's law", True),
    ("Washington, D.C.", "Washington D.C", True),
    ("salt & pepper", "salt &amp; pepper", True),
    ("1,200 km", "1200 km", True),
    ("1 200 km", "1200 km", True),
    ("5.0 km", "5 km", True),
    ("½ cup", "0.5 cup", True),
    ("H₂O", "H2O", True),
    ("The answer is Oslo.", "Oslo", True),
    ("Answer: Oslo", "Oslo", True),
    ("**Answer:** Oslo", "Oslo", True),
    ("Final answer: the fjord", "fjord", True),
    ("<answer>Oslo</answer>", "Oslo", True),
    ("\\boxed{\\text{Oslo}}", "Oslo", True),
    ("Let me think. The answer is Bergen. No: the answer is Oslo", "Oslo", True),
    ("Oslo\n\nIt lies on a fjord.", "Oslo", True),
    ("Sure, here it is:\n\n**Oslo**", "Oslo", True),
    ("La respuesta es Oslo.", "Oslo", True),
    ("The answer is Oslo. It lies on a fjord.", "Oslo", True),
    ("The answer is St. Petersburg.", "St. Petersburg", True),
    ("The answer is:\n\nOslo", "Oslo", True),
    ("A", "A", True),
    ("vitamin A", "vitamin A", True),
    ("C++", "C", False),
    ("C#", "C", False),
    (".NET", "NET", False),
    ("3.5 km", "35 km", False),
    ("-5 km", "5 km", False),
    ("Oslo or Bergen", "Oslo", False),
    ("Oslo, Norway", "Oslo", False),
    ("It is not Oslo", "Oslo", False),
    ("and/or", "and or", False),
    ("50 % of it", "50 of it", False),
    ("The", "the", True),
    ("...", "?", False),
    ("Paris [1][2].", "Paris", True),
    ("Paris【1】", "Paris", True),
    ("x [1]", "x [2]", False),
    ("İstanbul", "istanbul", True),
    ("U.S.A.", "USA", True),
    ("1914-1918", "1914–1918", True),
    ("Saint–Denis", "Saint Denis", True),
    ("!=", "=", False),
    ("¬p", "p", False),
    ("!p", "p", False),
    ("~p", "¬p", True),
    ("f''", "f'", False),
    ("A ∪ B", "A ∩ B", False),
    ("a ≤ b", "a b", False),
    ("print('x')", 'print("x")', True),
]


@pytest.mark.parametrize(("reply", "reference", "right"), SAME)
def test_an_open_answer_is_the_same_however_it_is_written(
    reply: str, reference: str, right: bool
) -> None:
    found = extract_text(reply)
    assert found is not None
    assert same_text(str(found.answer), reference) is right


@pytest.mark.parametrize("reply", ["", " \n ", "**", "\u200b"])
def test_nothing_is_no_answer(reply: str) -> None:
    assert extract_text(reply) is None


THOUGHTS = [
    # a reply, what it answers, what it thought
    ("C", "C", None),
    ("<think>B?</think>\n\nC", "C", "B?"),
    ("<think>\n\n</think>\n\nC", "C", "\n\n"),
    ("<THINK>B?</THINK> C", "C", "B?"),
    ("<think >B?</ think >C", "C", "B?"),
    ('<think id="1">B?</think>C', "C", "B?"),
    ("<thinking>B?</thinking>C", "C", "B?"),
    ("<thought>B?</thought>C", "C", "B?"),
    ("<thoughts>B?</thoughts>C", "C", "B?"),
    ("<reasoning>B?</reasoning>C", "C", "B?"),
    ("<reason>B?</reason>C", "C", "B?"),
    ("<reflection>B?</reflection>C", "C", "B?"),
    ("<scratchpad>B?</scratchpad>C", "C", "B?"),
    ("<seed:think>B?</seed:think>C", "C", "B?"),
    ("<think>B?</thinking>C", "C", "B?"),
    ("[THINK]B?[/THINK]C", "C", "B?"),
    ("◁think▷B?◁/think▷C", "C", "B?"),
    (
        "<|begin_of_thought|>B?<|end_of_thought|><|begin_of_solution|>C<|end_of_solution|>",
        "C",
        "B?",
    ),
    ("<|START_THINKING|>B?<|END_THINKING|><|START_RESPONSE|>C<|END_RESPONSE|>", "C", "B?"),
    ("<unused94>thought\nB?<unused95>C", "C", "\nB?"),
    ("<|channel>thought\nB?<channel|>C", "C", "\nB?"),
    (
        "<|channel|>analysis<|message|>B?<|end|><|start|>assistant<|channel|>final<|message|>C<|return|>",
        *("C", "B?"),
    ),
    ("<|channel|>final<|message|>C", "C", ""),
    ("analysisB? Let us see.assistantfinalC", "C", "B? Let us see."),
    ("B?</think>C", "C", "B?"),
    ("Hm.<think>B?</think>C", "Hm.C", "B?"),
    ("C<think>B?</think>", "C", "B?"),
    ("<think>B?</think>Or<think>D?</think>C", "OrC", "B?D?"),
    ("<think>a <think> b</think>C", "C", "a <think> b"),
    ("<think>a <think>b</think> c</think>C", "C", "a <think>b c"),
    ("<think>B?</think>", "", "B?"),
    ("<think>B? No, C", "", "<think>B? No, C"),
    ("<thinking>B", "", "<thinking>B"),
    ("C <think>B", "", "C <think>B"),
    ("<think>B?</think>C<think>D", "", "<think>B?</think>C<think>D"),
    ("<|channel|>analysis<|message|>B", "", "<|channel|>analysis<|message|>B"),
    ("analysisWe see B", "", "analysisWe see B"),
    ("Here is my thought process: B?\nHere is my response: C", "C", None),
    ("I think C", "I think C", None),
    ("a < b and b > c", "a < b and b > c", None),
    ("<thinkpad>C", "<thinkpad>C", None),
    ("analysis of C", "analysis of C", None),
    ("My assistant final C", "My assistant final C", None),
    ("<antThinking>B?</antThinking>C", "C", "B?"),
    ("<inner_monologue>B?</inner_monologue>C", "C", "B?"),
    ("<chain_of_thought>B?</chain_of_thought>C", "C", "B?"),
    ("<thought_process>B?</thought_process>C", "C", "B?"),
    ("<longcat_think>B?</longcat_think>C", "C", "B?"),
    (
        "<seed:think>B?<seed:cot_budget_reflect>9</seed:cot_budget_reflect>D?</seed:think>C",
        "C",
        None,
    ),
    ("<|think|>B?<|end|><|begin|>assistant<|content|>C", "C", None),
    ("<|thinking|>B?<|/thinking|>C", "C", "B?"),
    ("<|thinking|>B?<|end_thinking|>C", "C", "B?"),
    ("<|start_of_thinking|>B?<|end_of_thinking|>C", "C", "B?"),
    ("<｜begin▁of▁thinking｜>B?<｜end▁of▁thinking｜>C", "C", "B?"),
    ("Here is my thought process: B?", "", None),
    (
        "Here are my reasoning steps:\nB?\n[BEGIN FINAL RESPONSE]\nC\n[END FINAL RESPONSE]",
        "C",
        None,
    ),
    ("```thinking\nB?\n```\nC", "C", "B?"),
    (
        '<details type="reasoning"><summary>Thought for 3 seconds</summary>B?</details>C',
        "C",
        "B?",
    ),
]


@pytest.mark.parametrize(("reply", "said", "thought"), THOUGHTS)
def test_a_thought_is_cut_off_and_kept(reply: str, said: str, thought: str | None) -> None:
    found = split_thought(reply)
    assert found[0] == said
    if thought is not None or found[1] is None:
        assert found[1] == thought


def test_what_a_server_sets_apart_and_what_stands_in_the_text_are_one_thought() -> None:
    answer = Answer("q", text="<think> B? </think>C", thought="Is it A?")
    apart = separate_thought(answer)
    assert (apart.text, apart.thought) == ("C", "Is it A?\n\nB?")
    assert separate_thought(apart) == apart
    assert separate_thought(Answer("q", text="<think></think>C")).thought is None
    assert separate_thought(Answer("q")) == Answer("q")


def test_the_table_is_large() -> None:
    assert len(LETTERS) + len(OPTIONS) + len(NUMBERS) + len(SAME) + len(THOUGHTS) >= 300


READ = [
    ("B", CITIES, 1, "letter alone"),
    ("\\boxed{B}", CITIES, 1, "boxed"),
    ("The answer is B", CITIES, 1, "answer is"),
    ("It is Rome.", CITIES, 1, "text of the option"),
    ("#### 12", (), "12", "####"),
    ("\\boxed{12}", (), "12", "boxed"),
    ("The answer is 12", (), "12", "answer is"),
    ("12 apples", (), "12", "last number"),
    ("twelve", (), "12", "number in words"),
    ("Oslo", (), "Oslo", "whole reply"),
]


@pytest.mark.parametrize(("reply", "options", "answer", "by"), READ)
def test_the_form_in_which_it_was_found_is_named(
    reply: str, options: tuple[str, ...], answer: int | str, by: str
) -> None:
    reference: int | str = 0 if options else ("7" if answer != "Oslo" else "Bergen")
    question = Question("q", "d", "t", "?", options, reference)
    assert BY_REFERENCE.extract(question, reply) == Reading(answer, by)


RUNS = "Do the ferries run on Sundays?"
YES_OR_NO = [
    ("Yes, they do.", "yes"),
    ("**Yes**, the ferries run on Sundays!", "yes"),
    ("Answer: yes, that is correct", "yes"),
    ("No, they do not.", "no"),
    ("no, they don’t", "no"),
    ("No, the ferry does not run on Sundays.", "no"),
    ("No, that's wrong.\n\nThey rest.", "no"),
    ("Yes, they do not.", None),
    ("No, they do.", None),
    ("No, that is not incorrect.", None),
    ("Yes and no", None),
    ("No, yes", None),
    ("Yes, but only sometimes", None),
    ("Yes, they do sometimes.", None),
    ("Yes, they run on Mondays.", None),
    ("No, they can't.", None),
    ("Yes, they do, except in winter", None),
    ("No, they do not. On Mondays they do.", None),
    ("Yes, they do; or do they?", None),
]


@pytest.mark.parametrize(("reply", "answer"), YES_OR_NO)
def test_yes_or_no_may_be_said_with_the_question_again(reply: str, answer: str | None) -> None:
    for gold in ("yes", "No."):
        question = Question("q", "d", "t", RUNS, (), gold)
        found = BY_REFERENCE.extract(question, reply)
        assert found is not None
        right = answer is not None and answer in gold.lower()
        assert BY_REFERENCE.matches(question, found) is right
    named = replace(question, answer="Yes, they do")
    assert BY_REFERENCE.extract(named, reply) == extract_text(reply)


def grouped(value: Decimal, thousands: str, point: str) -> str:
    return f"{value:,}".translate(str.maketrans({",": thousands, ".": point}))


NOTATIONS = [
    (",", "."),
    ("", "."),
    ("_", "."),
    ("'", "."),
    ("’", "."),
    *((blank, point) for blank in "\u2009\u202f\u00a0" for point in ".,"),
    ("{,}", "."),
    ("\\,", "."),
]
FRAMES = [
    "{}",
    "{}.",
    "**{}**",
    "${}$",
    "\\({}\\)",
    "#### {}",
    "\\boxed{{{}}}",
    "The answer is {}.",
    "<think>7</think>It is {}",
    "Es sind {} km",
    "{} %",
    "€{}",
]


@given(
    st.decimals(-(10**9), 10**9, places=3),
    st.sampled_from(NOTATIONS),
    st.sampled_from(FRAMES),
    st.sampled_from(["-", "−", "–", "－"]),
)
def test_a_number_survives_whatever_its_notation(
    value: Decimal, notation: tuple[str, str], frame: str, minus: str
) -> None:
    # Three digits after a comma are thousands where nothing else stands between those.
    assume(notation[1] == "." or abs(value) >= 1000)
    reply = frame.format(grouped(value, *notation).replace("-", minus))
    said, _ = split_thought(reply)
    found = extract_number(said)
    assert found is not None
    assert Decimal(str(found.answer)) == value
    assert as_number(str(found.answer)) == found.answer == as_number(str(value))


@given(
    st.integers(-999, 999),
    st.integers(1, 99),
    st.sampled_from(
        [
            "{}/{}",
            "{} / {}",
            "\\frac{{{}}}{{{}}}",
            "\\dfrac{{{}}}{{{}}}",
            "\\boxed{{\\frac{{{}}}{{{}}}}}",
        ]
    ),
)
def test_a_fraction_is_its_exact_value(above: int, below: int, form: str) -> None:
    found = extract_number(form.format(above, below))
    assert found is not None
    assert Fraction(str(found.answer)) == Fraction(above, below)
    assert plain_numbers(str(found.answer)) == found.answer


@given(
    st.integers(1, 9999),
    st.integers(-20, 20),
    st.sampled_from(
        ["{}e{}", "{}E{}", "{} × 10^{}", "{}\\times 10^{{{}}}", "{} \\cdot 10^{{{}}}", "{}*10^{}"]
    ),
)
def test_an_exponent_shifts_the_point(value: int, exponent: int, form: str) -> None:
    found = extract_number(form.format(value, exponent))
    assert found is not None
    assert Fraction(str(found.answer)) == value * Fraction(10) ** exponent


PIECES = st.sampled_from(
    [
        *("A", "B", "or", "answer", "is", ":", "(", ")", "\n", "not", "Paris", "a", ",", "####"),
        *("\\boxed{", "}", "\\frac{", "{", "\\text{", "$", "^", "\\", "1", "1,200", ".5", "/", "-"),
        *("<think>", "</think>", "[THINK]", "<|channel|>analysis<|message|>", "assistantfinal"),
        *(
            "½",
            "²",
            "−",
            "\u2009",
            "million",
            "%",
            "e5",
            "π",
            "twelve",
            "&amp;",
            "<b>",
            "_",
            "*",
            "±",
        ),
    ]
)
REPLIES = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join))


def read_whatever_it_is(reply: str, options: list[str], reference: str) -> None:
    """What a reader finds is of its kind, and reading what was kept finds the same again."""
    said, thought = split_thought(reply)
    assert split_thought(said) == (said, None) or thought is None
    letter = answer_of(extract_letter(said, options))
    assert letter is None or 0 <= int(letter) < len(options)
    number = answer_of(extract_number(said))
    assert number is None or as_number(str(number)) == number
    text = answer_of(extract_text(said))
    assert text is None or same_text(str(text), str(text))
    question = Question("q", "d", "t", "?", (), reference)
    found = BY_REFERENCE.extract(question, said)
    assert found is None or BY_REFERENCE.matches(question, found) in (True, False)


EXAMPLE = given(REPLIES, st.lists(st.text(max_size=8), max_size=26), REPLIES)


@EXAMPLE
@settings(max_examples=600, deadline=None)
def test_any_reply_is_read_without_an_error(reply: str, options: list[str], reference: str) -> None:
    read_whatever_it_is(reply, options, reference)


@pytest.mark.slow
@EXAMPLE
@settings(max_examples=20_000, deadline=None)
def test_twenty_thousand_replies_are_read_without_an_error(
    reply: str, options: list[str], reference: str
) -> None:
    read_whatever_it_is(reply, options, reference)


LONG = [
    " " * 100_000,
    "answer" + " " * 100_000,
    "answer" + "\n" * 100_000 + "x",
    "answer is " * 10_000,
    "(" * 100_000,
    "A" * 100_000,
    "A, " * 30_000,
    "\\boxed{" * 15_000,
    "1," * 50_000,
    "1" * 100_000,
    "1/" * 50_000,
    "-" * 100_000,
    "A. x\n" * 20_000,
    "A or " * 20_000,
    "it is " * 17_000,
    "<answer>" * 12_000,
]


@pytest.mark.parametrize("reply", LONG, ids=range(len(LONG)))
def test_a_long_reply_takes_no_time(reply: str) -> None:
    start = time.process_time()
    extract_letter(reply, CITIES)
    extract_number(reply)
    extract_text(reply)
    same_text(reply, "x")
    split_thought(reply)
    assert time.process_time() - start < 2
