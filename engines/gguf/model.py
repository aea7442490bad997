"""A GGUF model in this process: tokens in, logits out, with one shared prefix in its cache."""

from __future__ import annotations

import copy
import ctypes
import os
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_float, c_int8, c_int32
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np

from domainlift.errors import BenchError, Misuse
from engines.gguf import libllama as ll
from engines.gguf.architectures import ModelShape
from engines.local.prefix_tree import Tokens, TokenTree, common_prefix
from engines.sampler import log_softmax

#: Sequences of a context; llama.cpp has no more than 256.
SEQUENCES = 256
_PREFIX = 0  # the sequence that holds the shared prefix
_STEP = 1024  # contexts grow by so many positions
_UBATCH = 512


class GgufModel:
    """Weights, vocabulary and context of one file; not for several threads at once.

    The context grows with what is asked, since its cache takes memory for each position.
    """

    def __init__(self, path: Path, *, exact: bool = False) -> None:
        """Load the file's weights; BenchError where llama.cpp cannot.

        With `exact`, keys and values are kept in 32 bits: a model stored in 32 bits then agrees
        with transformers to 1e-5.
        """
        self._lib = ll.libllama()
        self._cache_type = ll.F32 if exact else ll.F16
        params = self._lib.llama_model_default_params()
        _put(params, ll.MODEL, n_gpu_layers=0)
        ll.forget_errors()
        self._model: Any = self._lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise BenchError(f"llama.cpp cannot load `{path}`: {ll.last_error()}")
        self._refuse_unfit(path)
        self._owner = True
        self._sequences = SEQUENCES
        self._without_context()
        self.vocab = self._lib.llama_model_get_vocab(self._model)
        self.n_vocab = int(self._lib.llama_vocab_n_tokens(self.vocab))
        self.trained_context = int(self._lib.llama_model_n_ctx_train(self._model))

    def _without_context(self) -> None:
        self._context: Any = None
        self.positions = 0
        self._prefix: Tokens = ()
        self._adapter: Any = None
        self.tokens = 0

    def sibling(self, sequences: int, adapter: Any) -> GgufModel:
        """The same weights with a context of its own, for another thread; close it first."""
        other = copy.copy(self)
        other._owner, other._sequences = False, sequences
        other._without_context()
        other._adapter = adapter
        return other

    @property
    def description(self) -> str:
        """Architecture, size and quantisation in llama.cpp's words, as `llama 135M Q4_1`."""
        buffer = ctypes.create_string_buffer(256)
        self._lib.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def shape(self) -> ModelShape:
        """What a LoRA in GGUF must know of the model."""
        lib, model = self._lib, self._model
        kind = ctypes.create_string_buffer(256)
        lib.llama_model_meta_val_str(model, b"general.architecture", kind, len(kind))
        return ModelShape(
            kind.value.decode("utf-8", "replace"),
            int(lib.llama_model_n_layer(model)),
            int(lib.llama_model_n_head(model)),
            int(lib.llama_model_n_head_kv(model)),
        )

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return int(self._lib.llama_model_n_params(self._model))

    @property
    def chat_template(self) -> str | None:
        """The file's Jinja template of chats."""
        found = self._lib.llama_model_chat_template(self._model, None)
        return found.decode("utf-8", "replace") if found else None

    def tokenize(self, text: str, *, special: bool) -> Tokens:
        """Tokens of a text; with `special`, those that the file puts before a text come first."""
        raw = text.encode("utf-8", "replace")
        size = len(raw) + 8
        while True:
            buffer = (c_int32 * size)()
            count = self._lib.llama_tokenize(self.vocab, raw, len(raw), buffer, size, special, True)
            if count >= 0:
                break
            size = -count
        tokens = tuple(buffer[:count])
        # An end after a prompt would be answered by the beginning of another text.
        ended = special and self.appends_end and tokens[-1:] == (self.eos,)
        return tokens[:-1] if ended else tokens

    @property
    def appends_end(self) -> bool:
        """Whether the file has the end of a text put after every text; `tokenize` leaves it out."""
        return self.eos >= 0 and bool(self._lib.llama_vocab_get_add_eos(self.vocab))

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        given = (c_int32 * len(tokens))(*tokens)
        size = 16 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._lib.llama_detokenize(
                self.vocab, given, len(tokens), buffer, size, True, False
            )
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            size = -count

    def raw(self, token: int) -> bytes:
        """Bytes of one token, special ones included."""
        buffer = ctypes.create_string_buffer(256)
        count = self._lib.llama_token_to_piece(self.vocab, token, buffer, 256, 0, True)
        return buffer.raw[: max(0, count)]

    @property
    def bos(self) -> int:
        """The token that begins a text; -1 for none."""
        return int(self._lib.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> int:
        """The token that ends a text; -1 for none."""
        return int(self._lib.llama_vocab_eos(self.vocab))

    def ends(self, token: int) -> bool:
        """Whether a token ends a reply."""
        return bool(self._lib.llama_vocab_is_eog(self.vocab, token))

    def load_adapter(self, path: Path) -> Any:
        """Load a LoRA adapter in GGUF; Misuse where it does not fit the model."""
        ll.forget_errors()
        adapter = self._lib.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not adapter:
            raise Misuse(
                f"adapter `{path.parent}` does not fit the model: {ll.last_error()}",
                "use it with the model that it was trained on",
            )
        return adapter

    def use_adapter(self, adapter: Any) -> None:
        """Compute with this adapter from now on; None for the bare model."""
        if adapter is self._adapter:
            return
        self._adapter = adapter
        self.forget_prefix()
        if self._context:
            self._apply_adapter()

    def logits(self, prefix: Tokens, tree: TokenTree) -> Iterator[tuple[int, np.ndarray]]:
        """Decode a tree after its prefix; logits (vocabulary,) of the nodes that are read.

        Node -1 is the prefix's end. The arrays are views, valid until the next call.
        """
        read = sorted({node for each in tree.reads for node in each.nodes})
        at_end = read[:1] == [-1]
        self.reserve(len(prefix) + len(tree.tokens))
        self._hold(prefix, logits=at_end)
        if at_end:
            yield -1, self._row(-1)
        if not tree.tokens:
            return
        sequences = _leaf_sequences(tree)
        count = 1 + max(max(each) for each in sequences)
        memory = self._memory
        for sequence in range(1, count + 1):
            self._lib.llama_memory_seq_cp(memory, _PREFIX, sequence, 0, -1)
        wanted = frozenset(read)
        try:
            self._decode(
                tree.tokens,
                tree.positions,
                [[1 + path for path in paths] for paths in sequences],
                wanted,
            )
            for node in read:
                if node >= 0:
                    yield node, self._row(node)
        finally:
            for sequence in range(1, count + 1):
                self._lib.llama_memory_seq_rm(memory, sequence, -1, -1)

    def next_logprobs(self, tokens: Tokens) -> np.ndarray:
        """Log-probabilities (vocabulary,) of the token after these, in nats."""
        self.reserve(len(tokens))
        self._hold(tokens, logits=True)
        return log_softmax(self._row(-1))

    def append(self, rows: Sequence[tuple[int, Sequence[int], int]]) -> list[np.ndarray]:
        """Append tokens to sequences; logits (vocabulary,) after the last token of each.

        A row is a sequence, its next tokens and the position of the first.
        """
        ends = list(accumulate(len(tokens) for _, tokens, _ in rows))
        self._decode(
            [token for _, tokens, _ in rows for token in tokens],
            [start + i for _, tokens, start in rows for i in range(len(tokens))],
            [[sequence] for sequence, tokens, _ in rows for _ in tokens],
            frozenset(end - 1 for end in ends),
        )
        return [self._row(end - 1) for end in ends]

    def keep(self, sequence: int, source: int, length: int) -> None:
        """Let a sequence consist of the first positions of a source (itself or another one)."""
        if self._context:
            copied = sequence != source
            self._lib.llama_memory_seq_rm(self._memory, sequence, 0 if copied else length, -1)
            if copied and length:
                self._lib.llama_memory_seq_cp(self._memory, source, sequence, 0, length)

    def forget_prefix(self) -> None:
        """Empty the cache."""
        self._prefix = ()
        if self._context:
            self._lib.llama_memory_clear(self._memory, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free weights and context; a second call does nothing."""
        if self._context:
            self._lib.llama_free(self._context)
        if self._model and self._owner:
            self._lib.llama_model_free(self._model)
        self._context = self._model = None

    @property
    def _memory(self) -> Any:
        return self._lib.llama_get_memory(self._context)

    def _refuse_unfit(self, path: Path) -> None:
        lib, model = self._lib, self._model
        if not lib.llama_model_has_decoder(model) or lib.llama_model_has_encoder(model):
            raise Misuse(f"`{path}` is no model that continues a text")
        if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
            raise Misuse(
                f"`{path}` has a recurrent architecture, whose prefixes cannot be shared",
                "serve it with llama-server, and give its URL: `--model http://HOST:PORT/v1`",
            )

    def reserve(self, positions: int) -> None:
        """Have a context of at least so many positions; a larger one is empty."""
        if self._context and positions <= self.positions:
            return
        if self._context:
            self._lib.llama_free(self._context)
        self._prefix = ()
        self.positions = -(-positions // _STEP) * _STEP
        params = self._lib.llama_context_default_params()
        _put(
            params,
            ll.CONTEXT,
            n_ctx=self.positions,
            n_batch=self.positions,
            n_ubatch=_UBATCH,
            n_seq_max=self._sequences,
            n_outputs_max_per_seq=self._sequences,
            n_threads=processor_threads(),
            n_threads_batch=processor_threads(),
            type_k=self._cache_type,
            type_v=self._cache_type,
            # It has one kernel for few tokens and another for many, so that what a question is
            # asked beside would change its answer.
            flash_attn_type=ll.FLASH_ATTENTION_OFF,
            kv_unified=1,
        )
        ll.forget_errors()
        self._context = self._lib.llama_init_from_model(self._model, params)
        if not self._context:
            raise BenchError(f"llama.cpp has no context of {positions} tokens: {ll.last_error()}")
        if self._adapter is not None:
            self._apply_adapter()

    def _apply_adapter(self) -> None:
        adapters = [] if self._adapter is None else [self._adapter]
        size = len(adapters)
        given = (ctypes.c_void_p * size)(*adapters)
        scales = (c_float * size)(*([1.0] * size))
        if self._lib.llama_set_adapters_lora(self._context, given, size, scales):
            raise BenchError(f"llama.cpp refuses the adapter: {ll.last_error()}")

    def _hold(self, prefix: Tokens, *, logits: bool) -> None:
        """Have exactly this prefix in the cache; with `logits`, its last token is computed anew."""
        kept = common_prefix(self._prefix, prefix)
        if logits:
            kept = min(kept, len(prefix) - 1)
        if kept < len(self._prefix):
            self._lib.llama_memory_seq_rm(self._memory, _PREFIX, kept, -1)
        self._prefix = prefix[:kept]
        rest = prefix[kept:]
        if rest:
            last = len(rest) - 1
            self._decode(
                rest,
                range(kept, len(prefix)),
                [[_PREFIX]] * len(rest),
                frozenset({last} if logits else ()),
            )
        self._prefix = prefix

    def _decode(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        sequences: Sequence[Sequence[int]],
        wanted: frozenset[int],
    ) -> None:
        """Compute tokens; logits are kept of the places in `wanted`."""
        size = len(tokens)
        rows = [(c_int32 * len(each))(*each) for each in sequences]
        pointers = (POINTER(c_int32) * size)(*(ctypes.cast(row, POINTER(c_int32)) for row in rows))
        batch = ll.LlamaBatch(
            size,
            (c_int32 * size)(*tokens),
            None,
            (c_int32 * size)(*positions),
            (c_int32 * size)(*map(len, sequences)),
            pointers,
            (c_int8 * size)(*(place in wanted for place in range(size))),
        )
        ll.forget_errors()
        code = self._lib.llama_decode(self._context, batch)
        if code:
            self.forget_prefix()
            raise BenchError(f"llama.cpp failed with code {code}: {ll.last_error()}")
        self.tokens += size

    def _row(self, place: int) -> np.ndarray:
        found = self._lib.llama_get_logits_ith(self._context, place)
        if not found:
            raise BenchError(f"llama.cpp gave no logits: {ll.last_error()}")
        return np.ctypeslib.as_array(found, shape=(self.n_vocab,))


def _put(params: ll.Params, members: dict[str, tuple[str, int, int]], **values: int) -> None:
    for name, value in values.items():
        kind, offset, _ = members[name]
        params.put(kind, offset, value)


def _leaf_sequences(tree: TokenTree) -> list[list[int]]:
    """For each node, the numbers of the leaves below it: each leaf is a sequence of its own."""
    parents = set(tree.parents)
    paths: list[list[int]] = [[] for _ in tree.tokens]
    number = 0
    for node in range(len(tree.tokens)):
        if node in parents:
            continue
        above = node
        while above >= 0:
            paths[above].append(number)
            above = tree.parents[above]
        number += 1
    return paths


def processor_threads() -> int:
    """Threads to compute with: OMP_NUM_THREADS, as torch reads it, else the cores at hand."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
