"""The project as a whole: packages, docstrings, forbidden calls, and names that are unique."""

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
PACKAGES = (
    *("bench", "benchmarks", "domainlift", "engines", "ensemble", "finetune"),
    *("improve", "knowledge_bases", "rag", "reports", "serving", "traces", "watch"),
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


def test_every_package_is_our_own_wherever_python_is_started(tmp_path: Path) -> None:
    script = (
        "import importlib, json\n"
        f"found = {{name: importlib.import_module(name).__file__ for name in {PACKAGES!r}}}\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = {package: Path(file) for package, file in json.loads(done.stdout).items()}
    assert len({file.parents[1] for file in found.values()}) == 1
    for package, file in found.items():
        assert file.read_bytes() == (ROOT / package / "__init__.py").read_bytes()


@pytest.mark.parametrize("path", list(modules(*PACKAGES)), ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    if path.name.startswith("_") and path.name != "__init__.py":
        return
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_nothing_runs_what_others_wrote() -> None:
    paths = [*modules(*PACKAGES, "recipes", "perf", "scripts"), *ROOT.glob("*.py")]
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


#: Names of modules that occur in more than one package, and what each means wherever it occurs.
#: A module named like a command, stage or treatment is its part in its package.
SHARED_NAMES = {
    "base": "types and protocols of its package",
    "build": "the making of what its package stores",
    "chat": "chats: the command, and those in a user's files",
    "check": "the check of a plan for drops: the command, and its views",
    "contamination": "benchmark questions that occur in texts: the search, and its use",
    "documents": "documents: the loader, training rows made of them, and a folder to improve on",
    "domain_scores": "the scores of a run by domain: computed, and drawn",
    "domains": "domains: the loader, and the command that lists them",
    "engine": "the engine over its package's models",
    "exam": "the exam made of documents: the command, and its file",
    "files": "files: safe writing, GGUF files by name, and the rows of a user's file",
    "improve": "`bench improve`: the command, and its report",
    "marks": "marks: a person's on a reply, and those of a trace by rule",
    "ollama": "the client of Ollama: answers, and embeddings",
    "options": "options of commands: as they are typed, and as they are handed on",
    "plan": "the plan: its file, and the treatment policy made of it",
    "prompts": "prompts: of questions, and of the writing of training rows",
    "registry": "a table of names that can be opened, and how to add one",
    "route": "routing: the command, and the stage",
    "router": "the router: its decision, and its report",
    "rows": "rows: of training, and of tables that are read as documents",
    "run_result": "the result of `bench run`: computed, and drawn",
    "score": "scores: of one answer, and the stage that scores a model",
    "store": "what its package keeps on disk",
    "tokenize": "text to tokens: of the router, and of a training",
    "trace": "traces of agents: the commands, and the type",
    "train": "training: the command, the stage, and the training itself",
    "treatment": "treatments of questions: with passages, and by a plan",
}


def test_no_public_class_or_function_is_defined_twice() -> None:
    defined: dict[str, list[str]] = {}
    for path in modules(*PACKAGES):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            if isinstance(node, kinds) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(name(path))
    assert {each: paths for each, paths in defined.items() if len(set(paths)) > 1} == {}


def test_names_of_modules_that_occur_more_than_once_have_one_meaning() -> None:
    stems = [path.stem for path in modules(*PACKAGES) if path.stem != "__init__"]
    assert {stem for stem in stems if stems.count(stem) > 1} == SHARED_NAMES.keys()


def test_no_docstring_is_left_to_be_written() -> None:
    for path in modules(*PACKAGES):
        assert "TODO" not in path.read_text(encoding="utf-8").split("\n", 1)[0], name(path)
