"""Terminal views of a training: its dry run, its progress, and its result."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.text import Text

from domainlift.errors import Interrupted
from domainlift.hints import copyable
from domainlift.stats.formatting import accuracy, difference, interval
from domainlift.stats.intervals import Interval
from domainlift.text.display import printable
from finetune.data.replay import ReplayProgress
from finetune.distributed.process_group import from_environment
from finetune.training.early_stopping import ValidationResult
from finetune.training.train_output import TrainingProgress
from reports.progress import ProgressBar
from reports.terminal import console, duration, print_line, print_table

if TYPE_CHECKING:
    from finetune.dry_run import DryRun
    from finetune.stages.chain import Chain
    from finetune.train_adapter import TrainingResult

_COLUMNS = ("domain", "n", "base", "adapter", "change", "95 % interval", "gained", "lost")
_TEXTS = {"domain": "answers of the domain", "general": "general text"}
_ENDED = {
    "done": "all steps are taken",
    "patience": "it got no better",
    "fallen": "a protected domain fell",
}


def show_dry_run(found: DryRun) -> None:
    """Print rows as they would be trained on, and what the training would take."""
    print_line(f"{found.name}: {found.rows:,} rows ({_mixture(found)})")
    for number, parts in enumerate(found.examples, 1):
        print()
        print_line(f"example {number}", "dim")
        # Marked by signs, too: a file has no bold letters.
        shown = ((_lines(read), (f"⟦{_lines(trained)}⟧", "bold")) for read, trained in parts)
        console().print(Text.assemble(*(text for pair in shown for text in pair)))
    print()
    print_line("Only what stands between ⟦ and ⟧ is trained on.")
    for line in (*found.plan.lines(), *_plan(found), *found.notes):
        print_line(line)


def show_training(made: TrainingResult) -> None:
    """Print what a training changed on validation questions, and the way on."""
    done = made.trained
    print_line(
        f"{made.name} {made.version}: {done.steps} steps in {done.seconds:.0f} s, "
        f"{done.tokens_per_second:,.0f} tokens/s, peak {_gib(done.peak_bytes)}; "
        f"{_ENDED[done.stopped]}, step {done.best_step} is kept"
    )
    for line in made.plan.lines():
        print_line(line)
    for kind, change in made.perplexity.items():
        print_line(
            f"perplexity per word of held-out {_TEXTS[kind]}: {change['baseline']:,.2f} before, "
            f"{change['candidate']:,.2f} after (n {change['n']})"
        )
    if made.chain is not None:
        _show_stages(made.chain)
    if made.scores:
        rows = [_row(domain, score) for domain, score in made.scores.items()]
        print_table(_COLUMNS, rows, right={*_COLUMNS} - {"domain"})
        print_line("On what chose that step. Other questions prove it:")
    what = [made.base, "--adapter", f"{made.name}/{made.version}"]
    proof = copyable(shlex.join(["bench", "run", "--model", *what]))
    print_line(f"  {proof}", soft_wrap=True)


def _show_stages(chain: Chain) -> None:
    """Print a line of figures per stage, what went wrong in it, and which one is kept."""
    names = ("loss", "reward", "format", "accuracy", "length")
    rows = [
        [name, str(stage.steps), *(_figure(getattr(stage, key)) for key in names)]
        for name, stage in chain.stages.items()
    ]
    print_table(("stage", "steps", *names), rows, right={"steps", *names})
    for name, stage in chain.stages.items():
        for fault, count in stage.faults.items():
            print_line(f"{name}: {fault} ({count} replies)")
        if stage.steps_asked is not None and stage.steps:
            print_line(f"{name}: {stage.steps} of {stage.steps_asked} steps fit into the budget")
        if stage.end:
            print_line(f"{name} {stage.end}; `{chain.kept}` is kept")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mixture(found: DryRun) -> str:
    new = [f"{name} {count:,}" for name, count in found.new.items()]
    old = [f"{name} {count:,} known" for name, count in found.replay.items() if count]
    return ", ".join([*new, *old])


def _plan(found: DryRun) -> list[str]:
    plan = found.prediction
    share = plan.trainable / found.parameters
    cut = [f"{found.truncated} rows lose the beginning of their prompt"] if found.truncated else []
    again = ", activations computed twice" if plan.checkpointing else ""
    bound = found.plan.budget_seconds
    of = "" if bound is None else f" of a budget of {duration(bound)}"
    return [
        f"{plan.trainable:,} of {found.parameters:,} parameters are trained ({share:.2%})",
        f"{found.trained_tokens:,} tokens of an epoch are trained on; {plan.tokens:,} tokens pass "
        f"through in {plan.steps:,} steps, at most {plan.micro_batch:,} at a time{again}",
        f"predicted for {found.device}: peak memory {_gib(plan.peak_bytes)}, "
        f"{duration(plan.seconds)}{of}, without validation",
        *cut,
    ]


def _row(domain: str, score: Mapping[str, Any]) -> list[str]:
    cells = [domain, str(score["n"]), *map(accuracy, (score["base"], score["adapter"]))]
    if score["interval"] is None:
        return [*cells, difference(score["adapter"] - score["base"]), score["measure"]]
    return [
        *cells,
        difference((score["gains"] - score["losses"]) / score["n"]),
        interval(Interval(*score["interval"]), sign=True),
        str(score["gains"]),
        str(score["losses"]),
    ]


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


@contextmanager
def training_progress() -> Iterator[TrainingProgressView]:
    """Show progress; Ctrl-C becomes an error that says how to go on."""
    with ProgressBar(0) as progress:
        view = TrainingProgressView(progress)
        try:
            yield view
        except KeyboardInterrupt as error:
            if not from_environment().is_main:  # rank 0 says how far they came
                raise
            raise Interrupted(
                f"stopped after step {view.step}",
                "repeat the same command: it goes on from the last checkpoint",
            ) from error


class TrainingProgressView:
    """Callbacks that show trainings under way; `step` is the last one."""

    def __init__(self, progress: ProgressBar) -> None:
        self.step = 0
        self._progress = progress

    def on_progress(self, now: TrainingProgress) -> None:
        """Show the loss and the speed of a step."""
        self.step = now.step
        text = f"loss {now.loss:.3f}  {now.tokens_per_second:,.0f} tokens/s"
        self._progress.reach(now.step, now.steps, text)

    def on_replay(self, now: ReplayProgress) -> None:
        """Show the questions that rows of known material are made of, from the first on."""
        if now.note:
            self._progress.say(now.note)
        elif not now.done:
            bound = "" if math.isinf(now.seconds) else f", for {duration(now.seconds)} at most"
            self._progress.say(f"what is known already: {now.total} questions of {now.task}{bound}")
        else:
            left = "" if math.isinf(now.seconds) else f" ({duration(now.seconds)} at most)"
            self._progress.reach(now.done, now.total, f"known already, {now.task}{left}")

    def on_validation(self, name: str) -> Callable[[ValidationResult, int], None]:
        """The callback that shows the validations of one adapter."""

        def show(result: ValidationResult, step: int) -> None:
            scores = "  ".join(f"{domain} {value:.3f}" for domain, value in result.scores.items())
            fallen = f"  fallen: {', '.join(result.regressed)}" if result.regressed else ""
            self._progress.say(f"{name}, step {step}, validation: {scores}{fallen}")

        return show
