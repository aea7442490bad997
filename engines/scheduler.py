"""Continuous batching: replies to many callers are written side by side, in one thread.

At each step rows join and leave. A row that still has much of its prompt to compute takes part with
a share of it, so that the others go on. What a row has computed stays in its slot of the cache when
it is done, and the next prompt that begins alike goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

import numpy as np

from domainlift.errors import BenchError, EngineDown
from engines.base import Mode, Prompt, Request
from engines.local.prefix_tree import Tokens, common_prefix
from engines.local.tokenization import Encoder
from engines.reply_text import ReplyWriter, TokenReader
from engines.streaming import PromptTooLong, ReplyDelta, Sampling

Name = str | None

#: Tokens of a prompt that are computed at once at the least, and that another row shall compute
#: first; seconds for which the thread waits for rows.
_LEAST_SHARE, _WORTH_WAITING = 16, 32
_LINGER = 5.0
_STALE = ""  # no adapter's name


class CacheLost(Exception):
    """The cache had to be emptied: everything in it is computed anew."""


@dataclass(frozen=True)
class Feed:
    """Tokens of a row that are computed next; the first of them stands at `start`."""

    slot: int
    adapter: Name
    tokens: Sequence[int]
    start: int


class RowModel(Protocol):
    """Computes rows of a cache with a slot for each; only the scheduler's thread calls it.

    `rows` is the most at once and may shrink; `chunk` the most tokens of prompts in one step, and
    `spare` the most that are kept of rows that are done. With `shares`, a slot can be cut, and
    begin with what stands in another one of the same adapter.
    """

    rows: int
    chunk: int
    spare: int
    shares: bool

    def groups(self, adapters: Iterable[Name]) -> list[list[Name]]:
        """Divide adapters into those that may be fed together."""
        ...

    def keep(self, slot: int, source: int, adapter: Name, length: int) -> None:
        """Let a slot hold so many positions of a source (itself or another one), and no more.

        Raises CacheLost, as `feed`.
        """
        ...

    def feed(self, feeds: Sequence[Feed]) -> np.ndarray:
        """Compute these; logits after the last token of each, [feeds, vocabulary].

        Raises CacheLost where nothing is cached any more.
        """
        ...


@dataclass(eq=False)
class Slot:
    """The tokens whose keys and values stand in one row of the cache."""

    adapter: Name = None
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    used: int = 0


@dataclass(eq=False)
class ReplyRow:
    """One reply as it is written."""

    prompt: Tokens
    adapter: Name
    reply: ReplyWriter
    pieces: SimpleQueue[ReplyDelta | BaseException] = field(default_factory=SimpleQueue)
    cancelled: bool = False
    slot: int = -1

    @property
    def tokens(self) -> list[int]:
        """Prompt and reply so far."""
        return [*self.prompt, *self.reply.tokens]

    @property
    def length(self) -> int:
        """The number of its tokens."""
        return len(self.prompt) + len(self.reply.tokens)


def new_row(
    encoder: Encoder,
    reader: TokenReader,
    prompt: Prompt,
    sampling: Sampling,
    context: int | None,
) -> ReplyRow:
    """A row for a prompt; PromptTooLong where no reply fits."""
    request = Request("", Mode.GENERATE, prompt)
    (tokens,) = encoder.prompts([request])
    length = len(tokens)
    wished = [] if sampling.max_tokens is None else [sampling.max_tokens]
    room = [] if context is None else [context - length]
    if room and room[0] < 1:
        raise PromptTooLong(f"a prompt of {length} tokens exceeds the context window of {context}")
    limit = min([*wished, *room], default=2**31)
    opened = encoder.opened_thought(request)
    reply = ReplyWriter(reader, sampling, len(tokens), limit, opened)
    return ReplyRow(tokens, prompt.adapter, reply)


class Scheduler:
    """Writes rows with one model, in a thread that ends when nothing was asked for a while."""

    def __init__(self, model: RowModel) -> None:
        self._model = model
        self._slots = [Slot() for _ in range(model.rows)]
        self._waiting: deque[ReplyRow] = deque()
        self._running: list[ReplyRow] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._steps = 0

    def stream(self, row: ReplyRow) -> Generator[ReplyDelta, None, None]:
        """Yield the pieces of a row's reply; closing the generator ends it."""
        with self._changed:
            if self._closed:
                raise EngineDown("the engine is closed")
            self._waiting.append(row)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="decode", daemon=True)
                self._thread.start()
        try:
            while True:
                piece = row.pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                if piece.finish is not None:
                    return
        finally:
            row.cancelled = True

    def write(self, rows: Sequence[ReplyRow]) -> Iterator[tuple[ReplyRow, list[ReplyDelta], float]]:
        """Write rows in the caller's thread, and no others; each with its pieces and seconds."""
        self._waiting.extend(rows)
        pieces: dict[ReplyRow, list[ReplyDelta]] = {row: [] for row in rows}
        seconds = 0.0
        while pieces:
            start = time.perf_counter()
            self._advance()
            seconds += time.perf_counter() - start
            done = [row for row in pieces if _collect(row, pieces[row])]
            for row in done:
                yield row, pieces.pop(row), seconds / len(done)
            seconds = 0.0 if done else seconds

    def forget(self) -> None:
        """Reuse nothing of what was computed so far: weights or adapters have changed."""
        with self._changed:
            for slot in self._slots:
                # A row that goes on needs its tokens, but no other one may begin with them.
                slot.adapter, slot.tokens = _STALE, slot.tokens if slot.busy else []

    def close(self) -> None:
        """End all replies and the thread."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _serve(self) -> None:
        while self._awaits():
            try:
                self._advance()
            except Exception as error:
                self._fail(error)
        if self._closed:
            self._fail(EngineDown("the engine is closed"))

    def _awaits(self) -> bool:
        """Wait for rows; False where the thread is to end."""
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._closed or self._waiting or self._running, _LINGER
            )
            if self._closed or not ready:
                self._thread = None
                return False
            return True

    def _advance(self) -> None:
        try:
            self._step()
        except CacheLost:
            self._rewind()

    def _step(self) -> None:
        """Compute the next tokens of every row."""
        self._steps += 1
        for row in [row for row in self._running if row.cancelled]:
            self._release(row)
        self._admit()
        prompts = sum(row.length - len(self._held(row)) > 1 for row in self._running)
        share = max(_LEAST_SHARE, self._model.chunk // max(1, prompts))
        for names in self._model.groups(dict.fromkeys(row.adapter for row in self._running)):
            rows = [row for row in self._running if row.adapter in names]
            feeds = [self._feed(row, share) for row in rows]
            for row, feed, logits in zip(rows, feeds, self._model.feed(feeds), strict=True):
                held = self._held(row)
                held += feed.tokens
                if len(held) == row.length:
                    self._say(row, logits)

    def _feed(self, row: ReplyRow, share: int) -> Feed:
        start = len(self._held(row))
        return Feed(row.slot, row.adapter, row.tokens[start : start + share], start)

    def _say(self, row: ReplyRow, logits: np.ndarray) -> None:
        piece: ReplyDelta | Exception | None
        try:
            piece = row.reply.next(logits)
        except BenchError as error:
            piece = error
        if isinstance(piece, Exception) or (piece is not None and piece.finish is not None):
            self._release(row)
        if piece is not None:
            row.pieces.put(piece)

    def _held(self, row: ReplyRow) -> list[int]:
        return self._slots[row.slot].tokens

    def _admit(self) -> None:
        with self._changed:
            for row in list(self._waiting):
                if len(self._running) == self._model.rows:
                    return
                if not row.cancelled and self._is_under_way(row):
                    continue
                self._waiting.remove(row)
                if not row.cancelled:
                    self._running.append(row)
                    self._begin(row)

    def _is_under_way(self, row: ReplyRow) -> bool:
        """Whether another row computes right now much of what this one begins with."""
        tokens = row.tokens
        known = max((common_prefix(s.tokens, tokens) for s in self._usable(row)), default=0)
        return self._model.shares and any(
            common_prefix(other.tokens, tokens) >= known + _WORTH_WAITING
            for other in self._running
            if other.adapter == row.adapter
        )

    def _usable(self, row: ReplyRow) -> list[Slot]:
        return [s for s in self._slots if self._model.shares and s.adapter == row.adapter]

    def _begin(self, row: ReplyRow) -> None:
        """Take a slot, and what some slot already holds of the row's tokens."""
        tokens = row.tokens
        shared = [(common_prefix(s.tokens, tokens[:-1]), s) for s in self._usable(row)]
        length, source = max(shared, key=lambda pair: pair[0], default=(0, None))
        slot = min(
            (slot for slot in self._slots if not slot.busy),
            key=lambda slot: (bool(slot.tokens), slot.used),
        )
        # A conversation that goes on stays where it is; of others only the beginning is copied.
        if source is not None and not source.busy and 2 * length >= len(source.tokens) > 0:
            slot = source
        row.slot = self._slots.index(slot)
        self._model.keep(
            row.slot, row.slot if source is None else self._slots.index(source), row.adapter, length
        )
        slot.adapter, slot.tokens, slot.busy = row.adapter, tokens[:length], True

    def _release(self, row: ReplyRow) -> None:
        slot = self._slots[row.slot]
        slot.busy, slot.used = False, self._steps
        self._running.remove(row)
        spare = sorted((s for s in self._slots if not s.busy), key=lambda s: s.used)
        while sum(len(each.tokens) for each in spare) > self._model.spare:
            oldest = spare.pop(0)
            oldest.tokens = []
            place = self._slots.index(oldest)
            self._model.keep(place, place, oldest.adapter, 0)

    def _rewind(self) -> None:
        """Begin all rows anew, with what they have written."""
        with self._changed:
            self._slots = [Slot() for _ in range(self._model.rows)]
            self._waiting.extendleft(reversed(self._running))
            self._running = []

    def _fail(self, error: Exception) -> None:
        """Tell all who wait; nothing of what was computed is trusted any more."""
        with self._changed:
            rows = [*self._running, *(self._waiting if self._closed else ())]
            self._slots = [Slot() for _ in range(self._model.rows)]
            self._running = []
        for row in rows:
            row.pieces.put(_told(error))


def _collect(row: ReplyRow, pieces: list[ReplyDelta]) -> bool:
    """Add what a row has said since, and tell whether it is done; raises what ended it."""
    while not row.pieces.empty():
        piece = row.pieces.get()
        if isinstance(piece, BaseException):
            raise piece
        pieces.append(piece)
    return bool(pieces) and pieces[-1].finish is not None


def _told(error: Exception) -> BenchError:
    if isinstance(error, BenchError):
        return error
    return EngineDown(f"the reply cannot go on: {' '.join(str(error).split())[:200]}")
