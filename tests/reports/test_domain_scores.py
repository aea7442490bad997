from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.results.domain_scores import DomainScore, EvalResult
from benchmarks.runs.store import RunManifest
from domainlift.stats.intervals import Interval, Verdict
from domainlift.text.display import printable
from reports.domain_scores import remarks, show_manifest, show_scores

SCORE = DomainScore(
    n=40,
    correct=20,
    accuracy=0.5,
    interval=Interval(0.352, 0.648),
    chance=0.25,
    unparsed=1,
    truncated=2,
    errors=3,
    verdict=Verdict.UNCERTAIN,
    further=51,
)
WEAK = replace(SCORE, verdict=Verdict.WEAK, further=None)
EMPTY = DomainScore(0, 0, None, Interval(0, 1), 0.0, 0, 0, 4, None)


def profile(**domains: DomainScore) -> EvalResult:
    return EvalResult("demo-x-1", "x", "demo", 0.6, domains, WEAK, 1.0, 10, 0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, its blanks joined."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_row_says_all_of_a_domain(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(profile(history=SCORE))
    head, columns, row, *_ = lines(capsys)
    assert head == "x on demo (run demo-x-1)"
    assert (
        columns
        == "domain n accuracy 95 % interval chance unparsed cut off truncated errors verdict"
    )
    assert row == "history 40 0.500 [0.352, 0.648] 0.25 1 0 2 3 uncertain"


def test_several_domains_have_an_overall_row_without_a_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_scores(profile(history=WEAK, law=replace(SCORE, verdict=Verdict.STRONG, further=None)))
    rows = lines(capsys)[2:5]
    assert [row.split()[0] for row in rows] == ["history", "law", "overall"]
    assert [row.split()[-1] for row in rows] == ["weak", "strong", "3"]


def test_a_domain_without_answers_has_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(profile(history=EMPTY))
    assert lines(capsys)[2] == "history 0 - [0.000, 1.000] 0.00 0 0 0 4 -"


def test_what_would_settle_an_uncertain_domain_is_said() -> None:
    remark, *_ = remarks(profile(history=SCORE, law=WEAK))
    assert remark.startswith("history is uncertain against 0.60: ")
    assert " 51 more questions " in remark


def test_a_domain_below_chance_is_a_warning_with_its_replies() -> None:
    odd = replace(WEAK, below_chance=True, samples=("one", "two", "three"))
    warning, *samples, truncated = remarks(profile(history=odd, law=WEAK))
    assert warning.startswith("warning: history is significantly below chance; that is a fault of")
    assert samples == ["  one", "  two", "  three"]
    assert truncated.startswith("warning: 2 questions did not fit into the model's context")


def test_replies_that_were_cut_off_are_a_warning_that_names_the_option() -> None:
    made = profile(history=EMPTY)
    cut = replace(made, overall=replace(made.overall, cut_off=3, truncated=0))
    (warning,) = remarks(cut)
    assert warning.startswith("warning: 3 replies were cut off by the limit of tokens and count as")
    assert warning.endswith("`--max-tokens` raises it")


FOREIGN = "[bold]\x1b[31m\x07x\u202e[/y]"


def test_foreign_text_is_shown_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(SCORE, below_chance=True, samples=(FOREIGN,))
    made = profile(**{FOREIGN: odd, "law": WEAK})
    show_scores(replace(made, model=FOREIGN, suite=FOREIGN))
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\u202e")
    assert out.count("[bold]�[31m�x�[/y]") == 6


def test_a_manifest_is_shown_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = RunManifest(
        *("r", "m", "s", {"model": "aa"}, {"limit": 3}, {"name": FOREIGN}, {"bench": "1"}),
        questions=1,
        created="2025-01-01",
    )
    show_manifest(manifest)
    out = capsys.readouterr().out
    shown = {line.split()[0] for line in out.splitlines()}
    assert {"created", "state", "engine", "settings", "versions", "fingerprint"} <= shown
    assert "unfinished" in out
    assert "\x1b" not in out
    show_manifest(replace(manifest, finished=True))
    assert "unfinished" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grün 地 🤷", "grün 地 🤷"),
        ("a\nb\tc", "a�b�c"),
        ("\x1b[2J", "�[2J"),
        ("\u202eabc\u2066", "�abc�"),
        ("\ud800", "�"),
        ("\x9b31m", "�31m"),
    ],
)
def test_only_printable_characters_are_printed(text: str, shown: str) -> None:
    assert printable(text) == shown
