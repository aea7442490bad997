"""A small engine without a model: what it answers is a hash of the question's id."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.tasks.base import ALL_MODES, Example, Task, data_digest
from domainlift.errors import EngineDown
from domainlift.types import Question
from engines.base import Answer, EngineInfo, Mode, Request, Status

INFO = EngineInfo(
    engine="fake",
    model="fake/model",
    digest="sha256:0011223344556677",
    context=1000,
    modes=ALL_MODES,
    has_chat_template=True,
    options={"temperature": 0},
    versions={"fake": "1"},
    notes=("this is no model",),
)


class FakeEngine:
    """Answers after `delay` seconds each.

    `troubles` maps an id to error, truncated, unparsed or cut_off; `before` is called with the
    number of answers given so far, before each; at the number `down` the engine is gone.
    """

    def __init__(
        self,
        info: EngineInfo = INFO,
        *,
        delay: float = 0.0,
        troubles: Mapping[str, str] | None = None,
        before: Callable[[int], None] = lambda _: None,
        down: int | None = None,
    ) -> None:
        self.info = info
        self.forward_tokens = 0
        self.asked: list[Request] = []
        self.closed = False
        self._delay, self._before, self._down = delay, before, down
        self._troubles = troubles if troubles is not None else {}

    def count(self, text: str) -> int:
        return len(text.split())

    def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in requests:
            if len(self.asked) == self._down:
                raise EngineDown("the fake is down", "start it")
            self._before(len(self.asked))
            time.sleep(self._delay)
            self.asked.append(request)
            text = request.prompt.text + "".join(m.content for m in request.prompt.messages)
            self.forward_tokens += len(text.split())
            yield self._said(request)

    def close(self) -> None:
        self.closed = True

    def _said(self, request: Request) -> Answer:
        trouble = self._troubles.get(request.id)
        if trouble == "error":
            return Answer(request.id, Status.ERROR, error="the fake refuses this one")
        if trouble == "truncated":
            return Answer(request.id, Status.TRUNCATED, prompt_tokens=999)
        digest = hashlib.sha256(request.id.encode()).digest()
        if request.mode is Mode.GENERATE:
            text = (
                "Who knows?" if trouble == "unparsed" else f"The answer is {'ABCD'[digest[0] % 4]}."
            )
            cut_off = trouble == "cut_off"
            return Answer(
                request.id, text=text, cut_off=cut_off, output_tokens=5, seconds=self._delay
            )
        logprobs = tuple(-1.0 - digest[n] / 3 for n in range(len(request.options)))
        floored = len(logprobs) if trouble == "unparsed" else 0
        return Answer(
            request.id, logprobs=logprobs, mass=0.5, n_bounded=floored, seconds=self._delay
        )


def question(number: int, domain: str = "history", task: str = "exam", **more: object) -> Question:
    """A question with four options whose answer is a function of its number."""
    given = {"options": ("Paris", "Rome", "Bern", "Oslo"), "answer": number % 4} | more
    return Question(f"{task}-{number}", domain, task, f"Which city has number {number}?", **given)


def task(
    count: int,
    name: str = "exam",
    domains: Sequence[str] = ("history",),
    shots: int = 0,
    mode: Mode = Mode.LETTER,
) -> Task:
    """A task of so many questions, dealt out to the domains in turn."""
    questions = tuple(question(n, domains[n % len(domains)], name) for n in range(count))
    examples = tuple(Example(question(-n, domains[0], name)) for n in range(1, 4))
    return Task(
        name=name,
        domain=domains[0],
        questions=questions,
        examples=examples,
        description=f"Questions on {domains[0]}.\n\n",
        mode=mode,
        modes=ALL_MODES,
        shots=shots,
        digest=data_digest(questions, examples),
    )
