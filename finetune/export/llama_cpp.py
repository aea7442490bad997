"""llama.cpp in this process: log-probabilities and tokens of a prompt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError
from engines.servers.http import Server

#: More tokens than any check compares, so that what transformers finds likely is among them.
TOP = 200
_NEEDED = 'install it: `pip install "domainlift[gguf]"`'


class LlamaCpp:
    """A GGUF model, with a LoRA where one is given; close it when done.

    Keys, values and attention are computed in 32 bits, so that what is measured are the weights:
    a model stored in 32 bits then agrees with transformers to 1e-5.
    """

    def __init__(self, model: Path, lora: Path | None = None, *, context: int = 2048) -> None:
        if not is_there():
            raise BenchError("reading a GGUF file needs the package `xllamacpp`", _NEEDED)
        self._server: Any = _serve(model, lora, context)
        self._http = Server(self._server.listening_address, timeout=600.0)
        self._plain = self.tokens("a")[-1]

    def top(self, tokens: Sequence[int]) -> Mapping[int, float]:
        """Log-probabilities of the likeliest next tokens after these, in nats by token."""
        said = self._http.post(
            "/completion",
            {
                "prompt": list(tokens),
                "n_predict": 1,
                "n_probs": TOP,
                "temperature": 0,
                # An end, or a part of a letter, would be answered without log-probabilities. Those
                # are read before this choice is forced.
                "logit_bias": [[self._plain, 1e4]],
                "cache_prompt": False,
            },
        )
        try:
            (first,) = said["completion_probabilities"]
            return {entry["id"]: float(entry["logprob"]) for entry in first["top_logprobs"]}
        except (KeyError, TypeError, ValueError) as error:
            raise BenchError("llama.cpp gave no log-probabilities for a prompt") from error

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text; special ones are read where they are spelled out."""
        said = self._http.post("/tokenize", {"content": text, "parse_special": True})
        return [int(token) for token in said["tokens"]]

    def close(self) -> None:
        """Stop the server, so that its files can be moved."""
        self._http.close()
        self._server = None

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_there() -> bool:
    """Whether the package `xllamacpp` is installed."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def _serve(model: Path, lora: Path | None, context: int) -> Any:
    # It has no type stubs.
    xllamacpp: Any = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx = context
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.warmup = False
    params.verbosity = -1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cpuparams.n_threads = os.cpu_count() or 1
    if lora is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())
        raise BenchError(f"llama.cpp cannot load `{model}`: {first}") from error
