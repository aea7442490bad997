"""The same model under its Ollama tag and under its hub name."""

from __future__ import annotations

_INSTRUCT = {
    "qwen2.5": ("Qwen/Qwen2.5-{}-Instruct", "0.5b 1.5b 3b 7b 14b 32b 72b", "7b"),
    "qwen2.5-coder": ("Qwen/Qwen2.5-Coder-{}-Instruct", "0.5b 1.5b 3b 7b 14b 32b", "7b"),
    "qwen2": ("Qwen/Qwen2-{}-Instruct", "0.5b 1.5b 7b 72b", "7b"),
    "qwen3": ("Qwen/Qwen3-{}", "0.6b 1.7b 4b 8b 14b 32b", "8b"),
    "llama3.1": ("meta-llama/Llama-3.1-{}-Instruct", "8b 70b", "8b"),
    "llama3.2": ("meta-llama/Llama-3.2-{}-Instruct", "1b 3b", "3b"),
    "gemma2": ("google/gemma-2-{}-it", "2b 9b 27b", "9b"),
    "gemma3": ("google/gemma-3-{}-it", "270m 1b 4b 12b 27b", "4b"),
    "mistral": ("mistralai/Mistral-{}-Instruct-v0.3", "7b", "7b"),
    "phi3": ("microsoft/Phi-3-mini-4k-instruct", "mini 3.8b", "3.8b"),
    "phi3.5": ("microsoft/Phi-3.5-mini-instruct", "3.8b", "3.8b"),
    "smollm2": ("HuggingFaceTB/SmolLM2-{}-Instruct", "135m 360m 1.7b", "1.7b"),
    "tinyllama": ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "1.1b", "1.1b"),
}
# These write their sizes in small letters.
_SMALL = frozenset({"gemma2", "gemma3"})


def hub_name(tag: str) -> str | None:
    """Find the hub name of an Ollama tag such as `qwen2.5:3b`; None where it is not known."""
    family, _, variant = tag.lower().partition(":")
    if family not in _INSTRUCT:
        return None
    pattern, sizes, latest = _INSTRUCT[family]
    size, _, rest = (latest if variant in ("", "latest") else variant).partition("-")
    if size not in sizes.split() or rest.startswith(("base", "text")):
        return None
    if family in _SMALL:
        return pattern.format(size)
    return pattern.format(size.replace("m", "M").replace("b", "B"))
