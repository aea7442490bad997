"""Knowledge bases of real corpora: size, seconds, memory, and what they know.

BENCH_DATA=FOLDER python -m perf.knowledge --workspace FOLDER biology history security

Each domain is built in a process of its own from its declared sources, built again without a
change, and once more with one document changed. The probe answers MMLU's test questions by the
passages alone. Vectors are kept in the workspace's cache, so a repeated call does not embed anew:
the seconds of the first build are those of the first call.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from domainlift.workspace import Workspace
from perf.shapes import mirror

PROBED = {
    "biology": ("mmlu:high_school_biology", "mmlu:college_biology"),
    "history": (
        "mmlu:high_school_us_history",
        "mmlu:high_school_world_history",
        "mmlu:high_school_european_history",
    ),
    "security": ("mmlu:computer_security",),
}
# A file of each domain, and what in it is changed for the last build.
CHANGED = {
    "biology": "textbooks/biology-book.jsonl.gz",
    "history": "textbooks/us-history.jsonl.gz",
    "security": "security/attack/attack_objects.jsonl.gz",
}
_SENTENCE = " A sentence that was not there before changes this document."


def main() -> None:
    """Print one row per domain and step."""
    parser = argparse.ArgumentParser(description="knowledge bases of real corpora")
    parser.add_argument("domains", nargs="*", default=list(PROBED))
    parser.add_argument("--workspace", type=Path, required=True)
    settings = parser.parse_args()
    print("| domain | build | documents | chunks | seconds | peak GiB | disk MB |")
    print("|---|---|---|---|---|---|---|")
    for domain in settings.domains:
        for label, data in (("first", mirror()), ("unchanged", mirror())):
            _row(domain, label, settings.workspace, data)
        with tempfile.TemporaryDirectory() as folder:
            _row(domain, "one changed", settings.workspace, _changed(domain, Path(folder)))
        _row(domain, "changed back", settings.workspace, mirror())
    print("\n| domain | n | probe | 95 % interval | chance |\n|---|---|---|---|---|")
    for domain in settings.domains:
        tasks = [word for task in PROBED[domain] for word in ("--task", task)]
        found = _bench(["kb", "probe", domain, *tasks], settings.workspace, mirror())
        low, high = found["interval"]
        print(
            f"| {domain} | {found['n']} | {found['accuracy']:.3f} | [{low:.3f}, {high:.3f}] "
            f"| {found['chance']:.2f} |",
            flush=True,
        )


def _row(domain: str, label: str, workspace: Path, data: Path) -> None:
    start = time.perf_counter()
    found = _bench(["kb", "build", domain], workspace, data)
    seconds = time.perf_counter() - start
    folder = Workspace(workspace).knowledge_bases / domain / found["generation"]
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        f"| {domain} | {label} | {found['documents']:,} | {found['chunks']:,} | {seconds:.1f} "
        f"({found['seconds']:.1f}) | {found['peak'] / 2**30:.2f} | {disk / 1e6:.0f} |",
        flush=True,
    )


def _bench(words: list[str], workspace: Path, data: Path) -> dict[str, Any]:
    """Run one command in a process of its own; its peak memory comes with what it prints."""
    command = [sys.executable, "-m", "bench", *words, "--workspace", str(workspace), "--json"]
    environment = {**os.environ, "BENCH_DATA": str(data), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        said = process.stdout.read() if process.stdout is not None else ""
        # Unlike `wait`, this tells the memory of this one process.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: `{' '.join(words)}` ended with {process.returncode}")
    return {**json.loads(said), "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}


def _changed(domain: str, folder: Path) -> Path:
    """A mirror in which one document of one file has a sentence more."""
    shutil.copytree(
        mirror() / CHANGED[domain].split("/")[0], folder / CHANGED[domain].split("/")[0]
    )
    path = folder / CHANGED[domain]
    rows = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    middle = next(n for n in range(len(rows) // 2, len(rows)) if len(rows[n]) > 1000)
    row = json.loads(rows[middle])
    key = "text" if "text" in row else "description"
    rows[middle] = json.dumps({**row, key: row[key] + _SENTENCE})
    path.chmod(0o644)
    path.write_bytes(gzip.compress("\n".join(rows).encode("utf-8")))
    return folder


if __name__ == "__main__":
    main()
