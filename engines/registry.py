"""Registry of engines: a model's name, as a user types it, decides the engine.

To add an engine, write a module with a class that has the members of `engines.base.Engine` and a
function `open_NAME(name, options)` that returns one, and add a line to `ENGINES` below. Whether it
takes adapters or can be trained shows in its methods (`AdapterEngine`, `TrainableEngine`).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from domainlift.errors import Misuse
from domainlift.registry import load_object
from domainlift.text.display import without_credentials
from engines.base import Engine

TINY = "tiny"
SMOLLM2 = "smollm2"


@dataclass(frozen=True)
class EngineEntry:
    """An engine, the names of models that it takes, and who opens it.

    `pattern` is a regular expression that matches the whole name; with `folders`, the path of a
    folder will do as well. `opener` is called with the name and EngineOptions. Of a `served` model
    another process holds the weights; `hub_name` finds its name on the hub, None where it has none.
    `gguf` finds the GGUF file that this process reads for a name, None where it reads none: its
    weights are trained dequantised. `digest` finds that of what a name stands for now, None where
    it cannot tell; the model is not loaded.
    """

    name: str
    pattern: str
    opener: str
    folders: bool = False
    served: bool = False
    hub_name: str = ""
    gguf: str = ""
    digest: str = ""

    def takes(self, model: str) -> bool:
        """Whether a model's name is one of this engine's."""
        if re.fullmatch(self.pattern, model, re.DOTALL):
            return True
        return self.folders and model != "" and Path(model).is_dir()


#: The first whose names fit opens a model.
ENGINES = (
    EngineEntry(
        TINY, TINY, "engines.local.loading:open_tiny", digest="engines.local.loading:folder_digest"
    ),
    EngineEntry(
        "gguf",
        rf"{SMOLLM2}|(?i:.+\.gguf)",
        "engines.gguf.engine:open_file",
        gguf="engines.gguf.files:named_file",
        digest="engines.gguf.engine:named_file_digest",
    ),
    EngineEntry("openai", r"(?i:https?)://.*", "engines.servers.openai:open_endpoint", served=True),
    EngineEntry(
        "transformers",
        # Three parts after a host are a name of Ollama's: `hf.co/org/name`.
        r"(?![^/]*\.[^/]*/[^/]+/[^/]+\Z)[^./~:][^:]*/[^:]*",
        "engines.local.loading:open_local",
        folders=True,
        digest="engines.local.loading:folder_digest",
    ),
    EngineEntry(
        "ollama",
        # No URL, and nobody who asks one: Ollama's names have an `@` before a digest only.
        r"(?!\s*$)(?!.*(?:://|@(?!sha256:)))[^./~].*",
        "engines.servers.ollama:open_tag",
        served=True,
        hub_name="engines.servers.ollama_hub_names:hub_name",
        gguf="engines.servers.ollama:stored_file",
        digest="engines.servers.ollama:tag_digest",
    ),
)


@dataclass(frozen=True)
class EngineOptions:
    """Settings of engines; each engine reads those that concern it."""

    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None
    context: int | None = None
    seed: int = 0
    timeout: float = 300.0
    concurrency: int = 8


def open_engine(name: str, options: EngineOptions = EngineOptions()) -> Engine:
    """Open the engine of a model's name."""
    opener: Callable[[str, EngineOptions], Engine] = load_object(engine_of(name).opener)
    return opener(name, options)


def engine_of(name: str) -> EngineEntry:
    """Find the engine that takes a model's name; Misuse where none does."""
    for entry in ENGINES:
        if entry.takes(name):
            return entry
    shown = without_credentials(name) if "://" in name else name.rpartition("@")[2]
    raise Misuse(
        f"`{shown}` is neither a folder nor a model's name",
        "give a folder, a GGUF file, `org/name`, an Ollama tag such as `qwen2.5:3b`, "
        "a server as `http://host:port/v1#name`, `smollm2` or `tiny`",
    )


def current_digest(name: str) -> str | None:
    """The digest of what a model's name stands for now, without loading it.

    None where that cannot be told: a name on the hub, a server that does not say or does not run.
    """
    entry = engine_of(name)
    found: str | None = load_object(entry.digest)(name) if entry.digest else None
    return found


def is_dequantised(name: str) -> bool:
    """Whether a model is trained on other weights than it answers with: a GGUF's, dequantised."""
    return _gguf_file(name) is not None


def _gguf_file(name: str) -> Path | None:
    entry = engine_of(name)
    found: Path | None = load_object(entry.gguf)(name) if entry.gguf else None
    return found


def is_served(name: str) -> bool:
    """Whether another process holds the model, so that opening the engine costs nothing."""
    return engine_of(name).served


def weights_name(name: str) -> str:
    """The name under which this process can load a model's weights; Misuse where it cannot.

    For a GGUF file, and an Ollama tag that is read from Ollama's store, that is a folder of its
    dequantised weights, which is made the first time; for a tag that Ollama serves it is the same
    model on the hub, where it is known.
    """
    entry, file = engine_of(name), _gguf_file(name)
    if file is not None:
        return str(load_object("engines.gguf.dequantised:dequantised_folder")(file))
    if not entry.served:
        return name
    hub_name = load_object(entry.hub_name)(name) if entry.hub_name else None
    if hub_name is None:
        raise Misuse(
            f"another process holds the weights of `{name}`",
            "give the model's folder or its name on the hub: `ORG/NAME`",
        )
    return str(hub_name)


def source(name: str) -> str:
    """The folder or the hub name from which a model's files come; see `weights_name`."""
    weights = weights_name(name)
    return str(tiny_folder()) if weights == TINY else weights


def tiny_folder() -> Path:
    """The folder of the embedded model's files."""
    spec = importlib.util.find_spec("engines.tiny")
    if spec is None or not spec.submodule_search_locations:
        raise Misuse("the embedded model is missing", "install the package anew")
    return Path(next(iter(spec.submodule_search_locations))) / "checkpoint"
