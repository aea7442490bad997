"""The cost of a resume: 10,000 stored answers are read and skipped.

python -m perf.resume
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from benchmarks.runs.runner import EvalSettings, execute_run, open_run, prepare_job
from benchmarks.runs.store import RunStore
from benchmarks.tasks.base import Task, data_digest, with_ids
from domainlift.types import Question
from engines.base import Answer, EngineInfo, Mode, Request

_COUNT = 10_000


class _Instant:
    """An engine that answers at once, so that only the runner's own time is left."""

    info = EngineInfo("instant", "none", "none", None, frozenset(Mode), has_chat_template=False)
    forward_tokens = 0

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        for request in requests:
            yield Answer(request.id, logprobs=(-1.0, -2.0, -3.0, -4.0), mass=0.5)

    def count(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        pass


def main() -> None:
    """Answer all questions, then resume the run with one question open."""
    engine = _Instant()
    drafts = (
        Question("", "general", "made", f"Which is number {n}?", ("a", "b", "c", "d"), n % 4)
        for n in range(_COUNT)
    )
    questions = with_ids("made", drafts)
    modes = frozenset({Mode.LETTER})
    task = Task("made", "general", questions, (), "", Mode.LETTER, modes, 0, data_digest(questions))
    with tempfile.TemporaryDirectory() as folder:
        job = prepare_job([task], EvalSettings("made"), engine.info)
        run = open_run(job, engine.info, RunStore(Path(folder)))
        start = time.perf_counter()
        execute_run(job, engine, run, lambda _: None)
        written = time.perf_counter() - start
        path = run.folder / "answers.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]))
        start = time.perf_counter()
        again = open_run(job, engine.info, RunStore(Path(folder)))
        execute_run(job, engine, again, lambda _: None)
        skipped = time.perf_counter() - start
    print("|  | seconds |\n|---|---|")
    print(f"| {_COUNT:,} answers stored | {written:.2f} |")
    print(f"| {_COUNT - 1:,} stored answers skipped, one asked | {skipped:.2f} |")


if __name__ == "__main__":
    main()
