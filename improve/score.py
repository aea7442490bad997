"""Make a run, or go on with it, while the user watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.errors import Interrupted
from domainlift.text.display import printable

if TYPE_CHECKING:
    from benchmarks.runs.evaluate_task import AnswerCache
    from benchmarks.runs.runner import EvalJob
    from benchmarks.runs.store import Record, Run
    from engines.base import Engine


@dataclass(frozen=True)
class RunOptions:
    """Where a run is kept and which one it is."""

    workspace: Path
    data: Path | None = None
    resume: str | None = None
    fresh: bool = False
    target: float = 0.60


def score_job(
    job: EvalJob,
    engine: Engine,
    place: RunOptions,
    *,
    part: str = "",
    known: AnswerCache | None = None,
) -> Run:
    """Find or make the run of a job, and ask what is open in it.

    `part` says which of several runs this is; those are resumed by repeating the whole command.
    """
    from benchmarks.runs.runner import open_run, scoring_fallbacks
    from benchmarks.runs.store import RunStore

    store = RunStore(place.workspace)
    run = open_run(job, engine.info, store, fresh=place.fresh, resume=place.resume)
    said = engine.info.notes
    if not part:
        _say_notes([*said, *scoring_fallbacks(job, engine.info)])
    if not run.manifest.finished:
        _execute(job, engine, run, part, known)
        # A server may show only when asked what it cannot do.
        _say_notes(note for note in engine.info.notes if note not in said)
    elif not part:
        print(
            f"note: this is the stored run `{run.manifest.run}` of {run.manifest.created}; "
            "`--fresh` asks anew",
            file=sys.stderr,
        )
    return run


def _say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def _execute(job: EvalJob, engine: Engine, run: Run, part: str, known: AnswerCache | None) -> None:
    """Ask what is open, showing progress; Ctrl-C ends with the way on."""
    from benchmarks.runs.runner import execute_run
    from reports.progress import ProgressBar
    from reports.terminal import duration

    before = sum(record.status != "error" for record in run.records())
    asked = 0
    try:
        with ProgressBar(len(job.questions), before) as progress:

            def notify(record: Record) -> None:
                nonlocal asked
                asked += 1
                progress.step(record.domain)

            execute_run(job, engine, run, notify, known)
    except KeyboardInterrupt as error:
        raise _stopped(before + asked, len(job.questions), run, part) from error
    seconds = run.manifest.seconds
    skipped = f" ({before} were stored before)" if before else ""
    rate = f", {len(job.questions) / seconds:.3g}/s" if seconds else ""
    what = f" ({part})" if part else ""
    print(
        f"Scored {len(job.questions)} questions{what} in {duration(seconds)}{rate}{skipped}",
        file=sys.stderr,
    )


def _stopped(stored: int, total: int, run: Run, part: str) -> Interrupted:
    how = "" if part else f" with `--resume {run.folder.name}`"
    return Interrupted(
        f"stopped; {stored} of {total} answers are stored",
        f"repeat the same command{how}: it goes on where it stopped",
    )
