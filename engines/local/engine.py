"""Engine over transformers in this process; computes each prefix once (see `prefix_tree`)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engines.base import Answer, EngineInfo, Mode, Prompt, Request
from engines.local import loading
from engines.local.adapter_manager import AdapterManager
from engines.local.answers import no_memory, refused_answer, scored_answer
from engines.local.forward import Forward
from engines.local.generation import written_answers
from engines.local.prefix_tree import Batch, PromptItem, plan_batches
from engines.local.row_passes import LocalRows
from engines.local.special_tokens import appending_notes, stop_appending
from engines.local.tokenization import Encoder
from engines.reply_text import TokenReader
from engines.scheduler import Scheduler, new_row
from engines.streaming import ReplyDelta, Sampling

#: Replies that are written side by side, for answers and for callers.
_ROWS, _CALLERS = 32, 16


class TransformersEngine:
    """An engine over a loaded model; `load` makes one from a name."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        digest: str,
        batch_tokens: int | None = None,
        dequantised: bool = False,
    ) -> None:
        self._model = model
        appended = stop_appending(tokenizer)
        self._encoder = Encoder(tokenizer)
        self._forward = Forward(model)
        self._adapters = AdapterManager(model, self._forward)
        self._reader = TokenReader(
            self._encoder.decode, self._encoder.raw, self._forward.end_tokens.__contains__
        )
        # Held by whoever computes.
        self._lock = threading.Lock()
        self._scheduler: Scheduler | None = None
        self._batch_tokens = (
            batch_tokens if batch_tokens is not None else self._forward.batch_tokens()
        )
        self._context = _context(model)
        self._info = self._describe(model, name, digest, dequantised, appended)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        shown: str | None = None,
    ) -> TransformersEngine:
        """Load a folder or a model of the hub; `shown` is the name that a run records."""
        model, tokenizer = loading.load_model(name, device=device, dtype=dtype)
        return cls(
            model,
            tokenizer,
            name=shown if shown is not None else name,
            digest=loading.model_digest(name, model),
            batch_tokens=batch_tokens,
            dequantised=loading.is_dequantised_folder(name),
        )

    @property
    def info(self) -> EngineInfo:
        """Description of this engine."""
        return self._info

    @property
    def model(self) -> PreTrainedModel:
        """The loaded model; the engine answers with its current weights."""
        return self._model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._encoder.tokenizer

    @property
    def forward_tokens(self) -> int:
        """Token positions computed so far, prefixes and generated tokens included."""
        return self._forward.tokens

    @property
    def batch_tokens(self) -> int:
        """The present size of a batch: it shrinks when memory runs out."""
        return self._batch_tokens

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        """Yield answers batch by batch, in the order of the prompts' tokens.

        Adapters with few questions share batches where they can; the others take turns.
        """
        used, answers = self._adapters.used, self._answers(requests)
        with closing(answers):
            while True:
                # Held until an answer is there: others may compute, with other adapters, while the
                # caller looks at it.
                with self._lock:
                    self._adapters.use(used)
                    answer = next(answers, None)
                    used = self._adapters.used
                if answer is None:
                    return
                yield answer

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[ReplyDelta, None, None]:
        """Yield a reply as it grows, written beside those of other callers."""
        with self._lock:
            self._adapters.check([prompt.adapter])
            if self._scheduler is None:
                rows = LocalRows(self._forward, self._adapters, self._lock, _CALLERS)
                self._scheduler = Scheduler(rows)
        row = new_row(self._encoder, self._reader, prompt, sampling, self._context)
        yield from self._scheduler.stream(row)

    def _answers(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        self._adapters.check(request.prompt.adapter for request in requests)
        scored = [r for r in requests if r.mode is not Mode.GENERATE]
        for group in self._adapters.groups(r.prompt.adapter for r in scored):
            several = len(group) > 1
            self._adapters.use(None if several else group[0])
            yield from self._scored([r for r in scored if r.prompt.adapter in group], several)
        written = [r for r in requests if r.mode is Mode.GENERATE]
        for adapter in dict.fromkeys(r.prompt.adapter for r in written):
            self._adapters.use(adapter)
            yield from self._generated([r for r in written if r.prompt.adapter == adapter])

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter under the name that requests use.

        The folder holds `adapter_config.json` and `adapter_model.safetensors`. Raises Misuse where
        the adapter does not fit the model, or is trained prompts.
        """
        with self._lock:
            self._adapters.add(name, folder)
        self._forget()

    @contextmanager
    def answering_with(self, live: Any) -> Iterator[None]:
        """Answer as `live` does now, PEFT's model in training over this engine's model.

        Its adapter is in the model itself, so only what was computed before must be dropped.
        """
        self._drop_computed()
        try:
            yield
        finally:
            self._drop_computed()

    def count(self, text: str) -> int:
        """Count tokens with the model's own tokenizer."""
        return self._encoder.count(text)

    def close(self) -> None:
        """End replies that are being written, and drop what is cached."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.close()
        self._forward.reset()

    def _drop_computed(self) -> None:
        with self._lock:
            self._adapters.use(None)
            self._forward.reset()
        self._forget()

    def _forget(self) -> None:
        """Let no reply go on from what was computed with other weights."""
        if self._scheduler is not None:
            self._scheduler.forget()

    def _scored(self, requests: Sequence[Request], several: bool) -> Iterator[Answer]:
        """Score requests of the active adapter, or of several that can share a batch."""
        fitting = []
        for item in _by_adapter(self._encoder.items(requests), requests):
            early = refused_answer(requests[item.key], item, self._context)
            if early is None:
                fitting.append(item)
            else:
                yield early
        # The best batch is planned anew after memory ran out, with half its size.
        stack = [fitting]
        while stack:
            rest = stack.pop()
            batches = plan_batches(rest, tokens=self._batch_tokens, reads=self._forward.most_reads)
            for index, batch in enumerate(batches):
                try:
                    yield from self._score(batch, requests, several)
                except self._forward.out_of_memory as error:
                    self._shrink(batch, error)
                    stack.append([i for later in batches[index:] for i in later.items])
                    break

    def _score(self, batch: Batch, requests: Sequence[Request], several: bool) -> list[Answer]:
        start = time.perf_counter()
        names = {item.adapter_group: requests[item.key].prompt.adapter for item in batch.items}
        if several and not batch.prefix:
            # Where all are of one adapter too: to switch takes PEFT longer than a small pass.
            self._adapters.use(None)
            scores = self._forward.score(
                batch,
                lambda groups: self._adapters.adapters_per_token(
                    [names[group] for group in groups]
                ),
            )
        else:
            self._adapters.use(*set(names.values()))
            scores = self._forward.score(batch)
        seconds = (time.perf_counter() - start) / len(batch.items)
        return [
            scored_answer(requests[item.key], item, scores[item.key], seconds)
            for item in batch.items
        ]

    def _generated(self, requests: Sequence[Request]) -> Iterator[Answer]:
        rows = LocalRows(self._forward, self._adapters, nullcontext(), _ROWS, self._batch_tokens)
        yield from written_answers(rows, self._encoder, self._reader, requests, self._context)

    def _shrink(self, batch: Batch, error: BaseException) -> None:
        """Halve the size of batches, or give up where one item alone is too large."""
        self._forward.reset()
        if len(batch.items) == 1:
            raise no_memory(len(batch.items[0].prompt)) from error
        self._batch_tokens = max(1, self._batch_tokens // 2)

    def _describe(
        self, model: Any, name: str, digest: str, dequantised: bool, appended: Sequence[str]
    ) -> EngineInfo:
        notes = appending_notes(appended)
        if not self._forward.shares:
            notes.append(
                "this architecture cannot share prefixes: each prompt is computed by itself"
            )
        traits = self._encoder.chat_template.traits
        return EngineInfo(
            engine="transformers",
            model=name,
            digest=digest,
            context=self._context,
            modes=frozenset(Mode),
            has_chat_template=self._encoder.has_chat_template,
            options={
                "dtype": str(model.dtype).removeprefix("torch."),
                # Answers of before were those to prompts that had ended.
                **({"left_out": " ".join(appended)} if appended else {}),
                **traits.options(),
            },
            versions={
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "device": str(model.device),
                "parameters": str(model.num_parameters()),
                **({"weights": "dequantised from a GGUF file"} if dequantised else {}),
            },
            notes=(*notes, *traits.notes()),
        )


def _by_adapter(items: Sequence[PromptItem], requests: Sequence[Request]) -> list[PromptItem]:
    """Number the adapter groups by their tokens, so that small groups share batches."""
    tokens: Counter[str | None] = Counter()
    for item in items:
        tokens[requests[item.key].prompt.adapter] += len(item.prompt)
    order = sorted(tokens, key=lambda name: (tokens[name], name is not None, name))
    groups = {name: group for group, name in enumerate(order)}
    return [
        replace(item, adapter_group=groups[requests[item.key].prompt.adapter]) for item in items
    ]


def _context(model: Any) -> int | None:
    length = getattr(model.config, "max_position_embeddings", None)
    return int(length) if length is not None else None
