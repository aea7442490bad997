"""The pages tell the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "perf" / "README.md"]


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
        r"(?:bench|benchmarks|domainlift|engines|ensemble|finetune|knowledge_bases|rag|recipes"
        r"|reports|perf|tests|docs|scripts)"
    )
    for path in re.findall(rf"`({packages}/[\w/]+\.(?:py|md|yaml))`", text):
        assert (ROOT / path).exists(), path
