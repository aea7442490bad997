"""What holds for the house as a whole."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    *("bench", "benchmarks", "domainlift", "engines", "ensemble", "finetune"),
    *("improve", "knowledge_bases", "rag", "reports"),
)
FORBIDDEN = re.compile(
    r"trust_remote_code\s*=\s*True|pickle\.loads?\(|torch\.load\(|yaml\.(?:unsafe_)?load\("
    r"|shell\s*=\s*True"
)


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_room_is_our_own_wherever_python_is_started(tmp_path: Path) -> None:
    script = (
        "import importlib, json\n"
        f"found = {{room: importlib.import_module(room).__file__ for room in {ROOMS!r}}}\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = {room: Path(file) for room, file in json.loads(done.stdout).items()}
    assert len({file.parents[1] for file in found.values()}) == 1
    for room, file in found.items():
        assert file.read_bytes() == (ROOT / room / "__init__.py").read_bytes()


@pytest.mark.parametrize("path", list(modules(*ROOMS)), ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    if path.name.startswith("_") and path.name != "__init__.py":
        return
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_nothing_runs_what_others_wrote() -> None:
    paths = [*modules(*ROOMS, "recipes", "perf", "scripts"), *ROOT.glob("*.py")]
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


def test_the_rule_knows_what_it_forbids() -> None:
    for call in ("torch.load", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load"):
        assert FORBIDDEN.search(f"{call}(x)")
    for setting, sign in product(("shell", "trust_remote_code"), ("=", " = ")):
        assert FORBIDDEN.search(f"run(x, {setting}{sign}{True})")
    for line in ("yaml.safe_load(x)", "trust_remote_code=False", "json.load(x)"):
        assert not FORBIDDEN.search(line)
