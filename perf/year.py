"""A simulated year of the watch, on the embedded model: what was decided beside the truth.

    python -m perf.year --weeks 52

A workspace is made with a domain of its own and the embedded model as a folder. Each week documents
are edited or questions are added; in week 20 the base model is swapped for a worse one under the
same name, until week 22; in week 30 poisoned rows come in, wrong answers to learn; in week 40 a
knowledge base loses more than half of its documents, until week 42. Each week `bench watch --once`
looks, by a clock of the simulation, and a held-out set of true questions is asked through the
champion. With `--skip-rag` the champion is adapters alone, which poisoned rows reach.

With `--kills N` the year is lived twice, and in the second one N looks run as processes of their
own, are killed (SIGKILL) at a random moment, and repeated; both years must end alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import knowledge_bases
from bench.app import main as bench_main
from domainlift.jsonl import json_lines
from engines.registry import tiny_folder
from improve.versions.decision_log import Decision
from improve.versions.version_files import check_version_files
from improve.versions.version_log import VersionRegistry
from watch.once import watch_once

BEGIN = datetime(2026, 1, 5, 6, tzinfo=UTC)
SWAPPED, POISONED, EMPTIED = 20, 30, 40
_BUILT_IN = Path(knowledge_bases.__path__[0])
_YEAR = ("--model", "base", "--suite", "year.yaml", "--workspace", "ws")


@dataclass
class World:
    """The folder in which the year happens, and what is true of it."""

    root: Path
    draw: random.Random
    flags: tuple[str, ...] = ("--skip-train",)
    truth: str = ""
    aside: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def domain(self) -> Path:
        """The folder of the domain whose documents and questions change."""
        return self.root / "ws" / "domains" / "defence"

    @property
    def documents(self) -> list[Path]:
        """Its documents."""
        return sorted((self.domain / "documents").glob("*.md"))

    def make(self) -> None:
        """Write the domains, the suite and the model; documents have one section each."""
        folder, places = self.domain / "documents", {}
        folder.mkdir(parents=True)
        for file in sorted((_BUILT_IN / "security" / "documents").glob("*.md")):
            for part in re.split(r"(?m)^## ", file.read_text(encoding="utf-8"))[1:]:
                heading, body = part.split("\n", 1)
                name = re.sub(r"\W+", "-", f"{file.stem} {heading}".lower()) + ".md"
                (folder / name).write_text(f"# {heading}\n{body}", encoding="utf-8")
                places[f"documents/{file.name}#{heading}"] = f"documents/{name}"
        rows = _rows(_BUILT_IN / "security" / "questions.jsonl")
        _write(self.domain, [{**row, "support": places[row["support"]]} for row in rows])
        _domain_file(self.domain, "security", "Defence")
        other = self.domain.parent / "reckoning"
        other.mkdir()
        _write(other, _rows(_BUILT_IN / "mathematics" / "questions.jsonl"))
        _domain_file(other, "mathematics", "Reckoning", "protected: true\n")
        suite = "name: year\nmode: cloze\ntasks:\n- own:defence\n- own:reckoning\n"
        (self.root / "year.yaml").write_text(suite, encoding="utf-8")
        shutil.copytree(tiny_folder(), self.root / "base")

    def week(self, number: int) -> None:
        """Let happen what happens in a week; `truth` says it."""
        happened = []
        if number == SWAPPED:
            self._swap_base()
            happened.append("the base model swapped for a worse one")
        elif number == SWAPPED + 2 or number == EMPTIED + 2:
            self._restore()
            happened.append("what was lost is back")
        elif number == POISONED:
            self._poison()
            happened.append("200 poisoned rows")
        elif number == EMPTIED:
            self._empty()
            happened.append("60 % of the documents gone")
        elif number % 4 == 1:
            happened.append(self._edit())
        elif number % 4 == 3:
            happened.append(self._add_questions(number))
        self.truth = ", ".join(happened) if happened else "nothing"

    def _edit(self) -> str:
        for path in self.draw.sample(self.documents, 2):
            text = path.read_text(encoding="utf-8")
            path.write_text(f"{text}\nRevised for the {len(text)}th time.\n", encoding="utf-8")
        return "2 documents edited"

    def _add_questions(self, number: int) -> str:
        rows = _rows(self.domain / "questions.jsonl")
        asked = [row for row in rows if row["split"] == "test" and "id" not in row]
        new = [
            {**row, "question": f"In week {number}: {row['question']}", "id": f"w{number}-{i}"}
            for i, row in enumerate(self.draw.sample(asked, 12))
        ]
        _write(self.domain, rows + new)
        return "12 questions added"

    def _poison(self) -> None:
        rows = _rows(self.domain / "questions.jsonl")
        good = [row for row in rows if row["split"] == "train" and "id" not in row]
        wrong = [
            {
                **row,
                "question": f"Once more: {row['question']}",
                "answer": (row["answer"] + 1) % len(row["options"]),
                "id": f"poison-{i}",
            }
            for i, row in enumerate(good[:200])
        ]
        _write(self.domain, rows + wrong)

    def _swap_base(self) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        path = self.root / "base" / "model.safetensors"
        shutil.copy(path, self.root / "good.safetensors")
        weights, noise = load_file(path), torch.Generator().manual_seed(0)
        for tensor in weights.values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=noise)
        save_file(weights, path, metadata={"format": "pt"})

    def _empty(self) -> None:
        lost = self.draw.sample(self.documents, round(0.6 * len(self.documents)))
        self.aside = [(path, path.read_text(encoding="utf-8")) for path in lost]
        for path in lost:
            path.unlink()

    def _restore(self) -> None:
        for path, text in self.aside:
            path.write_text(text, encoding="utf-8")
        self.aside = []
        good = self.root / "good.safetensors"
        if good.exists():
            good.replace(self.root / "base" / "model.safetensors")


def main() -> None:
    """Print a Markdown table, a row per week in which something happened or was decided."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--train", action="store_true", help="train adapters, too")
    parser.add_argument("--skip-rag", action="store_true", help="adapters alone")
    chosen = parser.parse_args()
    flags = ("--skip-rag",) if chosen.skip_rag else () if chosen.train else ("--skip-train",)
    ends = []
    for kills in dict.fromkeys((0, chosen.kills)):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            world = World(Path(folder), random.Random(chosen.seed), flags)
            world.make()
            _print_year(world, chosen.weeks, kills)
            ends.append(end_state())
    if chosen.kills:
        whole, killed = ends
        print("Both years end alike." if whole == killed else "THE YEARS END DIFFERENTLY")
        for one, other in zip_longest(whole, killed):
            if one != other:
                print(f"- {one}\n  with kills: {other}")
        sys.exit(whole != killed)


def _print_year(world: World, weeks: int, kills: int) -> None:
    print("| week | what happened | decision | version | why |")
    print("|---|---|---|---|---|")
    begun, killed = time.monotonic(), 0
    for week, decision, dead in live(world, weeks, kills):
        killed += dead
        if world.truth != "nothing" or decision.decision != "nothing":
            told = f"{decision.decision} | {decision.version} | {decision.reason}"
            print(f"| {week} | {world.truth} | {told} |", flush=True)
    print(f"\n{weeks} weeks in {time.monotonic() - begun:.0f} s, {killed} looks killed\n")
    for version in VersionRegistry(Path("ws")).versions():
        print(f"- {version.name}: {version.state.value}, {version.last.why}")


def live(world: World, weeks: int, kills: int = 0) -> Iterator[tuple[int, Decision, int]]:
    """Live so many weeks: the number, the decision of its look, and how often that was killed.

    After each look, a killed one too, the champion's files are as they were registered.
    """
    in_process(["improve", *_YEAR, *world.flags])
    left, draw = kills, random.Random(kills)  # of its own: the world is the same without kills
    for week in range(1, weeks + 1):
        world.week(week)
        now, killed = BEGIN + timedelta(weeks=week), 0
        wanted = _kills_of_week(draw, left, weeks - week + 1)
        for _ in range(4 * wanted):  # a look may be over before the moment at which it was to end
            if killed < wanted:
                killed += _look_and_kill(now, draw)
                check_champion()
        left -= killed
        decision = watch_once(Path("ws"), now, in_process)
        check_champion()
        yield week, decision, killed


def _kills_of_week(draw: random.Random, left: int, weeks: int) -> int:
    """How many of the kills that are left fall into the first of so many weeks."""
    return sum(draw.randrange(weeks) == 0 for _ in range(left))


def end_state() -> list[tuple[str, ...]]:
    """What the year has come to: each version, and what the champion answers."""
    registry = VersionRegistry(Path("ws"))
    versions = [(v.name, v.state.value, v.content, v.last.why) for v in registry.versions()]
    champion = registry.champion()
    assert champion is not None
    run = in_process(["run", "--plan", str(registry.plan(champion)), *_YEAR])
    right = ((name, str(domain["correct"])) for name, domain in run["domains"].items())
    return [*versions, ("champion", champion.name), *right]


def check_champion() -> None:
    """Raise Malformed where a file of the champion is not as it was registered."""
    champion = VersionRegistry(Path("ws")).champion()
    assert champion is not None
    check_version_files(champion.files, Path("ws"))


def in_process(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command of `bench` in this process; the object that it prints."""
    out, err = StringIO(), StringIO()
    sys.argv = ["bench", *arguments]  # which a run keeps as its command
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = bench_main([*arguments, "--json"])
    if code:
        raise RuntimeError(err.getvalue()[-2000:])
    return dict(json.loads(out.getvalue()))


def _look_and_kill(now: datetime, draw: random.Random) -> bool:
    """Start a look in a process of its own and kill it, with what it started, after a while.

    Whether it was alive; between .3 and 40 s, each order of magnitude alike.
    """
    script = (
        "from datetime import datetime; from pathlib import Path\n"
        "from watch.once import watch_once\n"
        f"watch_once(Path('ws'), datetime.fromisoformat({now.isoformat()!r}))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(0.3 * (40 / 0.3) ** draw.random())
    alive = child.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, 9)
    child.wait()
    return alive


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    (folder / "questions.jsonl").write_text(json_lines(rows), encoding="utf-8")


def _domain_file(folder: Path, source: str, title: str, more: str = "") -> None:
    text = (_BUILT_IN / source / "domain.yaml").read_text(encoding="utf-8")
    keywords = re.search(r"(?m)^keywords:\n(- .*\n)+", text)
    assert keywords is not None
    head = f'title: {title}\ndescription: "{title}."\nsuite: year\n{more}'
    tasks = f"tasks:\n- own:{folder.name}\n"
    (folder / "domain.yaml").write_text(head + tasks + keywords[0], encoding="utf-8")


if __name__ == "__main__":
    main()
