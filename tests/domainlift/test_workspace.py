from __future__ import annotations

import ast
from pathlib import Path

import pytest

from domainlift.errors import BenchError
from domainlift.workspace import Workspace

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("bench", "benchmarks", "domainlift", "engines", "ensemble", "finetune"),
    *("improve", "knowledge_bases", "rag", "reports", "serving", "watch"),
)
FOLDERS = {
    *("domains", "runs", "knowledge_bases", "adapters", "plans", "reports", "routers", "exams"),
    *("data", "training", "textbooks", "exports", "held_out.jsonl"),
}


def test_paths_are_as_documented() -> None:
    workspace = Workspace(Path("w"))
    assert workspace.run("a").relative_to(Path.cwd()) == Path("w/runs/a")
    assert workspace.data_set("a").relative_to(Path.cwd()) == Path("w/data/a")
    assert workspace.training("a").relative_to(Path.cwd()) == Path("w/training/a")
    assert workspace.export("a-1-gguf") == Path("w/exports/a-1-gguf")
    assert workspace.router("d-0.1.0") == Path("w/routers/d-0.1.0.yaml")
    assert workspace.report("a-vs-b") == Path("w/reports/a-vs-b.html")
    assert workspace.synthesis_log("a") == Path("w/textbooks/a")
    assert workspace.embedding_cache == Path("w/knowledge_bases/.vectors.sqlite")
    assert workspace.held_out_ledger == Path("w/held_out.jsonl")
    assert workspace.keywords == Path("w/routes.yaml")


@pytest.mark.parametrize("kind", ["run", "data_set", "training", "export", "report"])
@pytest.mark.parametrize("name", ["../x", "/etc", "a/../../b"])
def test_a_name_that_leads_out_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="leads out of"):
        getattr(Workspace(tmp_path), kind)(name)


def spelled_paths(source: str) -> list[int]:
    """Lines that join a workspace with something, or anything with a folder of a workspace."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and (_is_workspace(node.left) or _is_folder(node.right))
    ]


def _is_workspace(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.endswith("workspace")


def _is_folder(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).split("/")[0] in FOLDERS


def test_no_other_module_spells_a_path_of_the_workspace() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != ROOT / "domainlift" / "workspace.py"
        for line in spelled_paths(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_rule_finds_spelled_paths() -> None:
    for line in ('workspace / "x"', 'self.workspace / name / "y"', 'root / "runs" / run'):
        assert spelled_paths(line)
    assert not spelled_paths("Workspace(workspace).runs / run")
