"""From the name that a user types to an engine.

tiny                     the model that ships with this package
http://host:port/v1#m    an OpenAI-compatible server, model m
./folder or org/name     transformers, in this process
tag:size or tag          Ollama
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from domainlift.errors import Misuse
from engines.base import Engine

TINY = "tiny"


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


def engine_of(name: str) -> str:
    """Which engine a model's name means: tiny, openai, transformers or ollama."""
    if name == TINY:
        return TINY
    if name.startswith(("http://", "https://")):
        return "openai"
    if Path(name).is_dir():
        return "transformers"
    if not name.strip() or name.startswith((".", "/", "~")):
        raise Misuse(
            f"`{name}` is neither a folder nor a model's name",
            "give a folder, `org/name`, an Ollama tag such as `qwen2.5:3b`, or `tiny`",
        )
    return "transformers" if "/" in name and ":" not in name else "ollama"


def is_served(name: str) -> bool:
    """Whether another process holds the model, so that opening the engine costs nothing."""
    return engine_of(name) in {"ollama", "openai"}


def weights_name(name: str) -> str:
    """The name under which this process can load a model's weights; Misuse where it cannot.

    For an Ollama tag that is the same model on the hub, where it is known.
    """
    if engine_of(name) in {TINY, "transformers"}:
        return name
    from engines.servers.ollama_hub_names import hub_name

    found = hub_name(name) if engine_of(name) == "ollama" else None
    if found is None:
        raise Misuse(
            f"another process holds the weights of `{name}`",
            "give the model's folder or its name on the hub: `ORG/NAME`",
        )
    return found


def source(name: str) -> str:
    """The folder or the hub name from which a model's files come; see `weights_name`."""
    found = weights_name(name)
    return str(tiny_folder()) if found == TINY else found


def open_engine(name: str, options: EngineOptions = EngineOptions()) -> Engine:
    """Make the engine for a model's name."""
    return _OPENERS[engine_of(name)](name, options)


def tiny_folder() -> Path:
    """Where the embedded model is."""
    spec = importlib.util.find_spec("engines.tiny")
    if spec is None or not spec.submodule_search_locations:
        raise Misuse("the embedded model is missing", "install the package anew")
    return Path(next(iter(spec.submodule_search_locations))) / "checkpoint"


def _tiny(name: str, options: EngineOptions) -> Engine:
    from engines.local.engine import TransformersEngine

    return TransformersEngine.load(
        str(tiny_folder()),
        device="cpu" if options.device == "auto" else options.device,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
        shown=name,
    )


def _transformers(name: str, options: EngineOptions) -> Engine:
    from engines.local.engine import TransformersEngine

    return TransformersEngine.load(
        name, device=options.device, dtype=options.dtype, batch_tokens=options.batch_tokens
    )


def _ollama(name: str, options: EngineOptions) -> Engine:
    from engines.servers.ollama import OllamaEngine

    return OllamaEngine(name, num_ctx=options.context, seed=options.seed, timeout=options.timeout)


def _openai(name: str, options: EngineOptions) -> Engine:
    from engines.servers.openai import OpenAIEngine, parse_openai_name

    url, model = parse_openai_name(name)
    return OpenAIEngine(
        url,
        model,
        concurrency=options.concurrency,
        timeout=options.timeout,
        seed=options.seed,
    )


_OPENERS = {
    TINY: _tiny,
    "transformers": _transformers,
    "ollama": _ollama,
    "openai": _openai,
}
