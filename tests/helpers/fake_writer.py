"""A small engine that writes questions from a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from engines.base import Answer, EngineInfo, Mode, Request, Status

ROSES = "Roses are pruned in February, before the buds break. The cut is made above the third bud."
CACTI = "A cactus is watered every 14 days. In winter it hardly needs any water at all."

#: Replies by title, good questions and made-up ones; of others nothing is said.
TABLE: Mapping[str, str] = {
    "Roses": "Question: When are roses pruned?\nAnswer: February\n"
    "Question: Above which bud is the cut of roses made?\nAnswer: the fifth\n",
    "Cacti": "Q: How often is a cactus watered?\nA: every 14 days",
}
INFO = EngineInfo("fake", "fake/writer", "sha256:77", None, frozenset(Mode), has_chat_template=True)


class FakeWriter:
    """Writes from the table, and says `reply` whenever it is asked a question."""

    def __init__(self, reply: str = "", *, failing: str = "\0") -> None:
        self.info = INFO
        self.forward_tokens = 0
        self.asked: list[str] = []
        self._reply, self._failing = reply, failing

    def count(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        pass

    def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in requests:
            self.asked.append(request.id)
            about = request.prompt.messages[-1].content
            if self._failing in about:
                yield Answer(request.id, Status.ERROR, error="refused")
            elif "Reply with a few words" in about:
                yield Answer(request.id, text=self._reply)
            else:
                said = next((own for name, own in TABLE.items() if f"about {name}." in about), "")
                yield Answer(request.id, text=said)
