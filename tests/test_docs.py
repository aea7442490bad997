"""The pages tell the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "perf" / "README.md",
]


def test_the_command_reference_is_what_help_says():
    command = [sys.executable, str(ROOT / "scripts" / "commands.py"), "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, (
        "write it anew: python scripts/commands.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_links_to_exists(page):
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_path_in_backticks_exists(page):
    text = page.read_text(encoding="utf-8")
    packages = (
        r"(?:bench|benchmarks|domainlift|engines|ensemble|finetune|improve|knowledge_bases|rag|recipes"
        r"|reports|perf|tests|docs|scripts)"
    )
    for path in re.findall(rf"`({packages}/[\w/]+\.(?:py|md|yaml))`", text):
        assert "NAME" in path or (ROOT / path).exists(), path


DOTTED = re.compile(
    r"(?<![\w./-])((?:bench|benchmarks|domainlift|engines|ensemble|finetune|improve|knowledge_bases"
    r"|rag|reports)(?:\.[a-z_]\w*)+)(?![\w/@-])"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_module_in_code_exists(page):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"```.*?```|`[^`\n]+`", text, re.S):
        for dotted in DOTTED.findall(code):
            parts = dotted.split(".")
            names = [parts, parts[:-1]]  # the last may be a name within the module
            known = [ROOT.joinpath(*n) for n in names if len(n) > 1]
            assert any(p.with_suffix(".py").exists() or p.is_dir() for p in known), dotted


def test_the_terms_are_in_order():
    rows = (ROOT / "docs" / "terms.md").read_text(encoding="utf-8").splitlines()
    words = [row.split(" | ")[0] for row in rows if row.startswith("| ")][1:]
    assert words == sorted(words)


def test_the_workflow_is_yaml_whose_shell_parses_and_whose_options_exist():
    workflow = yaml.safe_load((ROOT / "docs" / "github-actions.yml").read_text(encoding="utf-8"))
    shell = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    for script in shell:
        plain = re.sub(r"\$\{\{.*?\}\}", "1", script)
        subprocess.run(["bash", "-n"], input=plain, text=True, check=True)
    (line,) = (line for script in shell for line in script.splitlines() if "bench check" in line)
    commands = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    known = commands.split("## bench check", 1)[1].split("\n## ", 1)[0]
    for option in re.findall(r"--[a-z-]+", line):
        assert f" {option} " in known, option
