"""`bench doctor`: what is here, and what is missing for what."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from benchmarks.runs.store import RunStore
from benchmarks.tasks.registry import BENCHMARKS
from domainlift.errors import Misuse
from domainlift.text.display import without_credentials
from engines.gguf.files import smollm2_file
from engines.registry import SMOLLM2, tiny_folder
from engines.servers.ollama_model import DEFAULT_HOST, parse_host
from reports.terminal import print_json, print_table

_PACKAGES = ("domainlift", "datasets", "ollama", "torch", "transformers", "peft", "lm-eval")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `hint` says what to do where something is missing."""

    subject: str
    found: str
    hint: str = ""


def doctor(
    workspace: WorkspaceOption = WORKSPACE, data: Data = None, as_json: Json = False
) -> None:
    """Show versions, devices, memory, models and data.

    Example: bench doctor
    """
    findings = [
        *_versions(),
        *_guarded("devices", _devices),
        _memory(),
        *_guarded("Ollama", _ollama),
        *_guarded("hub models", _hub),
        _tiny(),
        _smollm2(),
        *_data(data),
        _workspace(workspace),
    ]
    if as_json:
        print_json([asdict(f) for f in findings])
        return
    print_table(("what", "found", "what to do"), [(f.subject, f.found, f.hint) for f in findings])


def _versions() -> list[Finding]:
    found = [Finding("Python", f"{platform.python_version()} on {platform.platform()}")]
    for name in _PACKAGES:
        try:
            found.append(Finding(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            extra = "lm-eval" if name == "lm-eval" else "local"
            found.append(Finding(name, "missing", f'`pip install "domainlift[{extra}]"`'))
    return found


def _devices() -> list[Finding]:
    if find_spec("torch") is None:
        return []
    import torch

    found = [Finding("processor", f"{os.cpu_count()} cores, {torch.get_num_threads()} used")]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append(
            Finding(f"cuda:{index}", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
        )
    if torch.mps.is_available():
        found.append(Finding("mps", "available"))
    return found


def _memory() -> Finding:
    try:
        pages = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return Finding("memory", "unknown on this system")
    free, total = (count * os.sysconf("SC_PAGE_SIZE") / 2**30 for count in pages)
    return Finding("memory", f"{free:.1f} of {total:.1f} GiB free")


def _ollama() -> list[Finding]:
    import ollama

    host = parse_host(os.environ.get("OLLAMA_HOST", DEFAULT_HOST))
    url = without_credentials(host)
    try:
        models = ollama.Client(host=host, timeout=3.0, trust_env=False).list().models
    except (ConnectionError, OSError, ollama.ResponseError):
        return [Finding("Ollama", f"does not answer at {url}", "start it: `ollama serve`")]
    names = ", ".join(sorted(str(m.model) for m in models))
    if not names:
        return [Finding("Ollama", f"at {url}, without models", "`ollama pull qwen2.5:3b`")]
    return [Finding("Ollama", f"at {url}: {names}")]


def _hub() -> list[Finding]:
    """Models that were fetched from the hub before, so that they load without a connection."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = [r for r in scan_cache_dir().repos if r.repo_type == "model"]
    except CacheNotFound:
        repos = []
    if not repos:
        return [Finding("hub models", "none fetched yet")]
    names = ", ".join(sorted(f"{r.repo_id} ({r.size_on_disk / 1e9:.1f} GB)" for r in repos))
    return [Finding("hub models", names)]


def _tiny() -> Finding:
    weights = tiny_folder() / "model.safetensors"
    if not weights.is_file():
        return Finding("tiny", "missing", "make it: `make tiny`, in a clone of the repository")
    return Finding("tiny", f"{weights.stat().st_size / 1e6:.1f} MB")


def _smollm2() -> Finding:
    try:
        path = smollm2_file()
    except Misuse as error:
        return Finding(SMOLLM2, "missing", error.hint or "")
    return Finding(SMOLLM2, f"{path.stat().st_size / 1e6:.1f} MB")


def _data(data: Path | None) -> list[Finding]:
    if data is None:
        return [
            Finding(
                "data", "no mirror: data sets come from the hub", "`--data FOLDER` or BENCH_DATA"
            )
        ]
    if not data.is_dir():
        return [Finding("data", f"{data} is not a folder", "correct `--data` or BENCH_DATA")]
    mirrored = [name for name in BENCHMARKS if (data / name).is_dir()]
    listed = ", ".join(mirrored) if mirrored else "none of the data sets"
    return [Finding("data", f"{data}: {listed}")]


def _workspace(workspace: Path) -> Finding:
    source = "BENCH_WORKSPACE" if "BENCH_WORKSPACE" in os.environ else "default or option"
    return Finding("workspace", f"{workspace} ({source}), {len(RunStore(workspace).ids())} runs")


def _guarded(subject: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """A doctor must not fall ill itself: what a look raises becomes its finding."""
    try:
        return look()
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return [Finding(subject, f"cannot be looked at: {type(error).__name__}: {first}")]
