"""Training row: a prompt and its completion, or a turn of an agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from domainlift.files import text_sha256
from engines.base import Message

#: Called with how many of how many pieces of work are done.
Notify = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """One thing to learn: to continue a prompt with a completion.

    Plain text continues `prompt` letter for letter, so a completion of words begins with a space.
    In a chat `messages` win, as they do in `engines.base.Prompt`, and the completion is the
    assistant's next turn; `tools` is the JSON text of what it may call. `kind` says how the row
    was made (`question`, `cloze`, `rewrite`, `replay`, `file`, …), `source` and `licence` from
    what. `rejected` is the worse completion of a pair, whose better one is `completion`.

    An agent's turn has a `chain` after `messages`: answers that call tools, the results, and a last
    answer, whose text is `completion`. All that the assistant says in it is learned.
    """

    prompt: str
    completion: str
    domain: str
    kind: str = "question"
    source: str = ""
    licence: str = ""
    messages: tuple[Message, ...] = ()
    tools: str = ""
    rejected: str = ""
    chain: tuple[Message, ...] = ()

    @property
    def asked(self) -> tuple[Message, ...]:
        """The turns of a chat that stand before the completion."""
        return (*self.messages, *self.chain[:-1])

    @property
    def id(self) -> str:
        """16 hexadecimal digits of what is learned, wherever it comes from."""
        turns = [asdict(message) for message in self.messages]
        sides = [self.completion, self.rejected] if self.rejected else [self.completion]
        chain = [[asdict(message) for message in self.chain]] if self.chain else []
        parts = [self.prompt, turns, self.tools, *sides, *chain]
        content = json.dumps(parts, ensure_ascii=False)
        return text_sha256(content)[:16]
