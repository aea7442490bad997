"""A small engine that writes from a table, and whose log-probabilities follow what it reads.

Words of the prompt are likely to come again, and so is their order: a cache language model. Run by
itself, it writes about the garden into a folder, slowly, so that it can be killed.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from domainlift.types import Passage
from engines.base import Answer, EngineInfo, Mode, Request, Status
from finetune.synthetic.generate import SynthesisJob, SyntheticTextbook, synthesize
from finetune.synthetic.prompts import KINDS, Excerpt

ROSES = "Roses are pruned in February, before the buds break. The cut is made above the third bud."
CACTI = "A cactus is watered every 14 days. In winter it hardly needs any water at all."
PONDS = "Carp rest below the ice of a pond. A hole of 30 cm lets the gas of rotting leaves escape."

#: Replies by title and kind, good ones and made-up ones; of others nothing is said.
TABLE: Mapping[tuple[str, str], str] = {
    ("Roses", "rewrite-entry"): "In February roses are pruned, before the buds break. Above the "
    "third bud of roses is the cut made.",
    ("Roses", "rewrite-simple"): "Tulips bloom gladly wherever gentle gardeners sing old songs. "
    "Roses are, before the buds break, pruned.",
    ("Roses", "rewrite-notes"): f"- {ROSES}\n- In February roses are pruned, "
    "before the buds break.",
    ("Roses", "rewrite-reversed"): "- February, roses, buds, and break the pruned.\n"
    "- Roses love 12 hours of sun.",
    ("Roses", "rewrite-dialogue"): "Student: When are the roses pruned?\nTeacher: Roses are pruned "
    "in February.\nStudent: And what else is there?",
    ("Roses", "questions"): "Question: When are roses pruned?\nAnswer: February\n"
    "Question: Above which bud is the cut of roses made?\nAnswer: the fifth\n",
    ("Cacti", "rewrite-entry"): "Every 14 days a cactus is watered.",
    ("Cacti", "questions"): "Q: How often is a cactus watered?\nA: every 14 days",
}
INFO = EngineInfo("fake", "fake/writer", "sha256:77", None, frozenset(Mode), has_chat_template=True)


class FakeWriter:
    """Writes from the table; `before` is called before each answer with the number of answers."""

    def __init__(
        self,
        info: EngineInfo = INFO,
        *,
        table: Mapping[tuple[str, str], str] = TABLE,
        before: Callable[[int], None] = lambda _: None,
        failing: str = "\0",
    ) -> None:
        self.info = info
        self.forward_tokens = 0
        self.asked: list[str] = []
        self._table, self._before, self._failing = table, before, failing

    def count(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        pass

    def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in requests:
            self._before(len(self.asked))
            self.asked.append(request.id)
            text = "".join([request.prompt.text, *(m.content for m in request.prompt.messages)])
            if self._failing in text:
                yield Answer(request.id, Status.ERROR, error="refused")
            elif request.mode is Mode.GENERATE:
                yield self._written(request, text)
            else:
                yield _read(request, text)

    def _written(self, request: Request, text: str) -> Answer:
        fitting = (
            reply
            for (title, kind), reply in self._table.items()
            if f"is about {title}." in text and KINDS[kind].instruction in text
        )
        said = next(fitting, "")
        words = said.split()
        cut_off = len(words) >= request.max_tokens
        return Answer(request.id, text=said, cut_off=cut_off, output_tokens=len(words))


def _read(request: Request, text: str) -> Answer:
    known = _words(text)
    pairs = set(itertools.pairwise(known))
    logprobs = tuple(_logprob(_words(option), set(known), pairs) for option in request.options)
    return Answer(request.id, logprobs=logprobs, greedy=(False,) * len(logprobs))


def _logprob(spoken: list[str], known: set[str], pairs: set[tuple[str, str]]) -> float:
    """Words that were read are likely, and more so in an order that was read."""
    found = [_word(word, known) for word in spoken]
    return sum(found) + sum(pair in pairs for pair in itertools.pairwise(spoken))


def _words(text: str) -> list[str]:
    return text.lower().replace(".", " ").replace(",", " ").split()


def _word(word: str, known: set[str]) -> float:
    return math.log(0.2 if word in known else 0.001)


def garden() -> list[Excerpt]:
    told = {"Roses": ROSES, "Cacti": CACTI, "Ponds": PONDS}
    return [
        Excerpt(Passage(text, f"Garden > {name}", name.lower(), f"garden.md#{name}"), "CC0")
        for name, text in told.items()
    ]


def written(engine: FakeWriter, folder: Path, **changes: object) -> SyntheticTextbook:
    work = SynthesisJob("gardening", garden())
    return synthesize(
        SynthesisJob(**{**vars(work), **changes}), engine, folder, lambda stage, done, total: None
    )


if __name__ == "__main__":

    def wait(number: int) -> None:
        print(number, flush=True)
        time.sleep(0.05)

    written(FakeWriter(before=wait), Path(sys.argv[1]))
