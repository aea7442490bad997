"""Views of `bench improve`: terminal tables of its forecast and result, and report sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.held_out.choice import ALPHA, Choice, ChoiceRule
from benchmarks.results.exam_scores import ExamScores
from benchmarks.results.improve_result import (
    FORM_ADAPTER,
    HeldOutResult,
    ImproveResult,
    TreatmentScore,
    TriageResult,
)
from benchmarks.results.strengths import Strength
from benchmarks.scoring.forms import FormScore, ranked_forms
from domainlift.stats.formatting import accuracy, difference, interval, p_value
from domainlift.stats.paired import Paired
from reports.compare_html import ReportSection
from reports.terminal import duration, print_json, print_line, print_table

_BASELINE = ("domain", "n", "accuracy", "95 % interval", "word")
_WORDS = frozenset({"word", "verdict", "chosen", "decided by"})
_TRIAGE = (
    *("domain", "n", "right", "right by form only", "noise", "passages mend", "other passage"),
    *("nothing", "broken"),
)
_CEILINGS = ("at most rag", "at most lora")
_TREATMENTS = ("base", "form", FORM_ADAPTER, "lora", "rag", "rag+lora")
_HELD_OUT = ("domain", "n", "base", "ensemble", "change", "95 % interval", "p", "verdict")
_NO_WEAK = "no domain is weak"
_RULES = {
    ChoiceRule.BEST: "best",
    ChoiceRule.EQUAL: "as good as {against}, cheaper",
    ChoiceRule.NOT_WORSE: "less than {margin} points below {against} (p {p}), cheaper",
    ChoiceRule.GAIN_TOO_SMALL: "{against} gains too little",
    ChoiceRule.COST: "cheapest not shown worse",
    ChoiceRule.UNTRIED: "nothing else tried",
}
_EXAM = ("part", "treatment", "n", "accuracy", "95 % interval")
_FORMS = ("form", "n", "accuracy", "tokens a question")
_CONTROLS = ("way", "n", "accuracy", "tokens a question")


class ImproveView:
    """Prints each table as soon as it is known, and the verdict last."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def tell(self, done: ImproveResult) -> None:
        """Print the tables that are new."""
        for title, columns, rows in _tables(done):
            if title in self._shown:
                continue
            self._shown.add(title)
            print_line(title, "bold")
            print_table(columns, rows, right={*columns[1:]} - _WORDS)
            print()

    def close(self, done: ImproveResult) -> None:
        """Print what is left, and the verdict."""
        self.tell(done)
        for line in _closing(done):
            print_line(line)


def sections(done: ImproveResult) -> list[ReportSection]:
    """The same tables and the verdict for the page of a comparison."""
    made = [ReportSection(title, columns, rows) for title, columns, rows in _tables(done)]
    return [*made, ReportSection("Verdict", text="\n".join(_closing(done)))]


Row = tuple[str, ...]
Table = tuple[str, tuple[str, ...], list[Row]]


def _tables(done: ImproveResult) -> Iterator[Table]:
    if done.form.tried:
        tried = [_control(label, score) for label, score in ranked_forms(done.form.tried)]
        yield "Forms in which it was asked (selection questions)", _FORMS, tried
    yield "Where the model stands (selection questions)", _BASELINE, [*_baseline(done)]
    if done.triage:
        rows = [_triage(name, counts) for name, counts in done.triage.items()]
        yield "What could be mended (selection questions)", _TRIAGE + _CEILINGS, rows
    if done.treatments:
        known = {name for domain in done.chosen for name in done.scores(domain)}
        columns = [name for name in _TREATMENTS if name in known]
        yield (
            "What each treatment does (selection questions; tokens a question)",
            ("domain", *columns, "chosen", "decided by"),
            [_treatments(name, done, columns) for name in done.chosen],
        )
    if done.proof is not None:
        proof = done.proof
        yield "The ensemble (held-out questions)", _HELD_OUT, [*_held_out(proof)]
        if done.exam is not None:
            title = f"The exam of {done.exam.domain} (held-out questions)"
            yield title, _EXAM, [*_exam(done.exam)]
        controls = [_control(name, score) for name, score in proof.controls.items()]
        yield "Other ways to send the same questions (held-out questions)", _CONTROLS, controls


def _baseline(done: ImproveResult) -> Iterator[Row]:
    for domain, score in done.diagnosis.base.domains.items():
        word = done.diagnosis.words[domain]
        yield domain, str(score.n), accuracy(score.accuracy), interval(score.interval), word


def _triage(name: str, result: TriageResult) -> Row:
    counts = (
        result.n,
        result.hits,
        result.form,
        result.noise,
        result.passages,
        result.retrieval,
        result.unrecoverable,
        result.broken,
    )
    ceilings = (result.ceilings["rag"], result.ceilings["lora"])
    return (name, *map(str, counts), *(f"+{100 * most:.0f} points" for most in ceilings))


def _treatments(name: str, done: ImproveResult, columns: Sequence[str]) -> Row:
    scores = done.scores(name)
    costs = (_cost(scores.get(each)) for each in columns)
    return (name, *costs, done.chosen_name(name), _rule(done.chosen[name]))


def _rule(choice: Choice) -> str:
    p = "" if choice.p is None else p_value(choice.p)
    margin = "" if choice.margin is None else f"{100 * choice.margin:g}"
    return _RULES[choice.rule].format(against=choice.against, margin=margin, p=p)


def _held_out(proof: HeldOutResult) -> Iterator[Row]:
    for domain, change in proof.change.items():
        judged = proof.promotion.domains.get(domain)
        if domain:
            p, word = ("-", "-") if judged is None else (p_value(judged.p), judged.word.value)
            yield domain, *_changed(change), p, word
    if "" in proof.change:
        yield "overall", *_changed(proof.change[""]), p_value(proof.change[""].p), ""


def _changed(change: Paired) -> Row:
    return (
        str(change.n),
        accuracy(change.baseline),
        accuracy(change.candidate),
        difference(change.difference),
        interval(change.interval, sign=True),
    )


def _control(name: str, score: TreatmentScore | FormScore) -> Row:
    return name, str(score.n), accuracy(score.accuracy), f"{score.tokens:.0f}"


def _exam(exam: ExamScores) -> Iterator[Row]:
    parts = {
        "held-out facts": exam.facts,
        "held-out wordings": exam.wordings,
        "both, as served": exam.served,
        "both, as served, likelihood": exam.served_likelihood,
    }
    for part, scores in parts.items():
        for name in (*_TREATMENTS, "ensemble"):
            if name in scores:
                own = scores[name]
                yield part, name, str(own.n), accuracy(own.accuracy), interval(own.interval)


def _closing(done: ImproveResult) -> Iterator[str]:
    noise = done.diagnosis.noise
    yield f"asked the same again, {noise.flips} of {noise.n} answers turned"
    if done.protected:
        yield f"protected, as shown to be known: {_listed(done.protected)}"
    if done.watched:
        yield f"watched for harm, but not shown to be above chance: {_listed(done.watched)}"
    yield from (_beyond_form(domain, change) for domain, change in done.beyond_form.items())
    for note in done.notes:
        yield f"note: {note}"
    if done.proof is None:
        weak = ", ".join(done.triage)
        form = f" in the form {done.form.label}" if done.form.label else ""
        why = f"no treatment of {weak} is better than the base model{form}" if weak else _NO_WEAK
        yield f"nothing is proposed: {why}"
        return
    proof = done.proof
    yield f"{proof.routed:.1%} of the questions were sent where their label would have sent them"
    if proof.leaked:
        yield f"{proof.leaked} held-out questions stand in the knowledge bases and do not count"
    if proof.due:
        yield "these held-out questions were looked at too often: fresh ones are due"
    yield f"verdict: {proof.promotion.word} ({proof.promotion.why}); look {proof.look}"
    if done.plan is not None:
        yield f"plan: {done.plan}"


def _beyond_form(domain: str, change: Paired) -> str:
    """What an adapter gains over one that saw no row of its domain."""
    gain = f"{difference(change.difference)} {interval(change.interval, sign=True)}"
    shown = change.difference > 0 and change.p < ALPHA
    word = "knowledge" if shown else "not shown to be more than the form of answers"
    return (
        f"lora of {domain} beyond a form adapter, which saw no row of it: {gain}, "
        f"p {p_value(change.p)}, n {change.n}: {word}"
    )


def _listed(strengths: Mapping[str, Strength]) -> str:
    return ", ".join(
        f"{name} ({accuracy(each.accuracy)}, chance {accuracy(each.chance)}, n {each.n}, "
        f"p {p_value(each.p)})"
        for name, each in strengths.items()
    )


def _cost(score: TreatmentScore | None) -> str:
    return "-" if score is None else f"{accuracy(score.accuracy)} ({score.tokens:.0f})"


@dataclass(frozen=True)
class Stage:
    """One stage; None where nothing was measured from which it could be foretold.

    `seconds` are those of as many questions as may be asked, at the pace of an earlier run;
    `memory` and `disk` are in bytes.
    """

    name: str
    what: str
    seconds: float | None = None
    memory: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class Missing:
    """What is not there, and the command that mends it."""

    what: str
    hint: str


@dataclass(frozen=True)
class Forecast:
    """All stages in their order."""

    model: str
    stages: Sequence[Stage]
    missing: Sequence[Missing]


def show_forecast(found: Forecast, *, as_json: bool) -> None:
    """Print a forecast."""
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        (each.name, each.what, _time(each.seconds), _bytes(each.memory), _bytes(each.disk))
        for each in found.stages
    ]
    if rows:
        print_table(("stage", "what", "time", "memory", "disk"), rows)
    for missing in found.missing:
        print_line(f"missing: {missing.what}", "bold")
        if missing.hint:
            print_line(f"   {missing.hint}")
    if not found.missing:
        print_line("nothing is missing")


def _time(seconds: float | None) -> str:
    if not seconds:
        return "not measured yet" if seconds is None else "-"
    return f"≤ {duration(seconds)}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
