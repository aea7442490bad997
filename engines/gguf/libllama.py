"""Binding of llama.cpp's C interface, as the package `xllamacpp` carries it.

The package's own interface is a server that answers one request at a time. Scoring shares prefixes
between questions and options, which needs `llama_decode` over a tree of sequences; its symbols are
exported by the package's library. Names and meanings are those of llama.cpp's `include/llama.h`.

Parameters are passed there as structures whose layout changes between versions. Only the members
named below are touched, and their defaults are checked first: a library of another layout is
refused in one line.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections import deque
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError

#: No slower than the default where the cores are free (perf/README.md).
_SPINS = "1000"
#: The version of `xllamacpp` whose layout is written down here.
KNOWN = "2026.10.11549"
_NEEDED = 'install it: `pip install "domainlift[gguf]"`'
_ERROR = 4  # GGML_LOG_LEVEL_ERROR
F32, F16 = 0, 1  # GGML_TYPE_F32, GGML_TYPE_F16
FLASH_ATTENTION_OFF = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED


class Params(ctypes.Structure):
    """Parameters of a model or a context: more room than either takes, filled by llama.cpp."""

    _fields_ = (("raw", ctypes.c_uint8 * 512),)

    def get(self, kind: str, offset: int) -> int:
        """A member, read as `struct` reads the format `kind`."""
        return int(struct.unpack_from(kind, bytes(self.raw), offset)[0])

    def put(self, kind: str, offset: int, value: int) -> None:
        """Set a member."""
        struct.pack_into(kind, self.raw, offset, value)


class LlamaBatch(ctypes.Structure):
    """`llama_batch`: arrays of `n_tokens` entries, and the sequences of each token."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


#: Members of `llama_context_params`: format and offset in bytes, with the default by which a
#: layout is known.
CONTEXT = {
    "n_ctx": ("=I", 0, 512),
    "n_batch": ("=I", 4, 2048),
    "n_ubatch": ("=I", 8, 512),
    "n_seq_max": ("=I", 12, 1),
    "n_outputs_max": ("=I", 20, 0),
    "n_outputs_max_per_seq": ("=I", 24, 1),
    "n_threads": ("=i", 28, 4),
    "n_threads_batch": ("=i", 32, 4),
    "flash_attn_type": ("=i", 52, -1),
    "type_k": ("=i", 104, F16),
    "type_v": ("=i", 108, F16),
    "offload_kqv": ("=b", 137, 1),
    "swa_full": ("=b", 140, 1),
    "kv_unified": ("=b", 141, 0),
}
#: The same of `llama_model_params`.
MODEL = {"n_gpu_layers": ("=i", 16, -1)}

_SIGNATURES: dict[str, tuple[Any, Sequence[Any]]] = {
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (Params, ()),
    "llama_context_default_params": (Params, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, Params)),
    "llama_init_from_model": (c_void_p, (c_void_p, Params)),
    "llama_free": (None, (c_void_p,)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_has_encoder": (c_bool, (c_void_p,)),
    "llama_model_has_decoder": (c_bool, (c_void_p,)),
    "llama_model_chat_template": (c_char_p, (c_void_p, c_char_p)),
    "llama_model_desc": (c_int32, (c_void_p, c_char_p, c_size_t)),
    "llama_model_n_params": (ctypes.c_uint64, (c_void_p,)),
    "llama_model_n_layer": (c_int32, (c_void_p,)),
    "llama_model_n_head": (c_int32, (c_void_p,)),
    "llama_model_n_head_kv": (c_int32, (c_void_p,)),
    "llama_model_meta_val_str": (c_int32, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_bos": (c_int32, (c_void_p,)),
    "llama_vocab_eos": (c_int32, (c_void_p,)),
    "llama_vocab_get_add_eos": (c_bool, (c_void_p,)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_tokenize": (
        c_int32,
        (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool),
    ),
    "llama_detokenize": (
        c_int32,
        (c_void_p, POINTER(c_int32), c_int32, c_char_p, c_int32, c_bool, c_bool),
    ),
    "llama_token_to_piece": (
        c_int32,
        (c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool),
    ),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_decode": (c_int32, (c_void_p, LlamaBatch)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_adapter_lora_init": (c_void_p, (c_void_p, c_char_p)),
    "llama_set_adapters_lora": (
        c_int32,
        (c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float)),
    ),
    "llama_log_set": (None, (c_void_p, c_void_p)),
}


def is_installed() -> bool:
    """Whether the package `xllamacpp` is there."""
    return find_spec("xllamacpp") is not None


@cache
def libllama() -> Any:
    """The library with its functions typed; BenchError where it is missing or another one."""
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise BenchError("a GGUF file is read with the package `xllamacpp`", _NEEDED)
    found = version("xllamacpp")
    refused = BenchError(
        f"this version reads GGUF files with xllamacpp {KNOWN}, and {found} is installed",
        f'install it: `pip install "xllamacpp=={KNOWN}"`',
    )
    try:
        (path,) = Path(spec.origin).parent.glob("xllamacpp*.so")
        # Read when GNU OpenMP is loaded: a thread that waits for another spins so often and then
        # sleeps. It spins for milliseconds by default, which beside other work costs minutes.
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, ValueError, AttributeError) as error:
        raise refused from error
    for defaults, members in (
        (library.llama_model_default_params(), MODEL),
        (library.llama_context_default_params(), CONTEXT),
    ):
        if any(defaults.get(kind, offset) != value for kind, offset, value in members.values()):
            raise refused
    library.llama_log_set(ctypes.cast(_log, c_void_p), None)
    library.llama_backend_init()
    return library


def last_error() -> str:
    """The first error that llama.cpp logged since `forget_errors`, in one line; "" for none."""
    first = " ".join((_errors[0] if _errors else "").split())
    return first.rpartition("error loading model: ")[2]


def forget_errors() -> None:
    """Drop logged errors, before a call whose error is to be read."""
    _errors.clear()


# Filled by llama.cpp's threads; the first errors name the cause, what follows only passes it on.
_errors: deque[str] = deque()


def _note_error(level: int, text: bytes, _: object) -> None:
    if level == _ERROR and len(_errors) < 8:
        _errors.append(text.decode("utf-8", "replace"))


# Kept for as long as the library, which calls it.
_log = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)(_note_error)
