"""Judge of replies in a process of its own, so that no fault of a reward ends a training."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any

from domainlift.errors import BenchError, Misuse
from finetune.rewards.functions import Judgement, as_judgement, open_reward

#: Seconds in which one reply is judged, and in which the process must be ready.
SECONDS, START = 6.0, 60.0
_NOTHING = Judgement(0.0, 0.0)


class Judge:
    """Judges replies by the reward of a name; `faults` counts what went wrong with it."""

    def __init__(self, reward: str, seconds: float = SECONDS) -> None:
        self.reward = reward
        self.faults: Counter[str] = Counter()
        self._seconds = seconds
        self._process: SpawnProcess | None = None
        self._pipe: Connection[Any, Any]

    def __enter__(self) -> Judge:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._end()

    def judge(self, replies: Sequence[str], references: Sequence[str]) -> list[Judgement]:
        """Judge each reply by its reference."""
        return [self._one(*pair) for pair in zip(replies, references, strict=True)]

    def _one(self, reply: str, reference: str) -> Judgement:
        if self._process is None:
            self._start()
        try:
            self._pipe.send((reply, reference))
            if not self._pipe.poll(self._seconds):
                return self._fault(f"took more than {self._seconds:g} s", end=True)
            said = self._pipe.recv()
        except (EOFError, OSError):
            return self._fault("ended its process", end=True)
        return said if isinstance(said, Judgement) else self._fault(str(said))

    def _fault(self, what: str, *, end: bool = False) -> Judgement:
        self.faults[f"reward `{self.reward}` {what}"] += 1
        if end:
            self._end()
        return _NOTHING

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self.reward), daemon=True)
        self._process.start()
        other.close()
        said = "it ended while it was loaded"
        with suppress(EOFError, OSError):
            said = (
                self._pipe.recv() if self._pipe.poll(START) else "it cannot be loaded in a minute"
            )
        if said:
            self._end()
            raise Misuse(
                f"reward `{self.reward}`: {said}",
                "a reward is one of exact, choice, countdown, tests, or `FILE.py:FUNCTION`",
            )

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = None


def _serve(pipe: Connection[Any, Any], name: str) -> None:
    """Judge what comes through the pipe, until it is closed."""
    try:
        reward = open_reward(name)
    except BenchError as error:
        pipe.send(error.what)
        return
    except Exception as error:  # the user's own file
        pipe.send(f"{type(error).__name__}: {error}"[:200])
        return
    pipe.send("")
    with suppress(EOFError, OSError):
        while True:
            reply, reference = pipe.recv()
            try:
                pipe.send(as_judgement(reward(reply, reference)))
            except Exception as error:
                pipe.send(f"raised {type(error).__name__}: {error}"[:200])
