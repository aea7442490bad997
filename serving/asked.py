"""What a prompt asks: the question in a conversation or a text, and what stands around it.

The texts of `benchmarks.prompts` are read back, so that a benchmark question that comes over HTTP
is routed, searched for and asked as `bench run --plan` does it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

from benchmarks.prompts import INSTRUCTION, passage_block, question_block
from domainlift.types import Question, Treatment
from engines.base import Message, Mode, Prompt
from ensemble.router.stop_words import FUNCTION_WORDS
from ensemble.router.tokenize import router_words

#: Where a plain reply ends: where the next question would begin.
PLAIN_STOPS = ("\n\n", "Question:")
#: A question of fewer words that say something takes those of the question before, too.
_FEWEST_WORDS, _MOST_TURNS = 3, 4
_EXAMPLE_END = re.compile(r"\nAnswer: [^\n]*\n\n")
_DESCRIPTION = re.compile(r"\AThe following are [^\n]*\n\n")
_NEXT = "\n\nQuestion: "
_PLAIN_END, _CHAT_END = "\nAnswer:", f"\n\n{INSTRUCTION}"


@dataclass(frozen=True)
class Asked:
    """A question, and the prompt that holds it.

    `block` is the text that asks it; passages stand before it. `head` comes first, `examples`
    between both. Of a conversation `block` is the end of the turn number `turn`, and `head` its
    beginning. `options` are what may continue the prompt, as an engine's `mode` has them.
    """

    question: Question
    block: str
    head: str = ""
    examples: str = ""
    messages: tuple[Message, ...] = ()
    turn: int = -1
    mode: Mode = Mode.LETTER
    options: tuple[str, ...] = ()

    @property
    def characters(self) -> int:
        """The length of all that is asked, without passages."""
        turns = sum(len(turn.content) for turn in self.messages)
        return turns or len(self.head) + len(self.examples) + len(self.block)

    def with_options(self, options: tuple[str, ...], mode: Mode) -> Asked:
        """The same with the options that are to be scored; they are the question's in a cloze."""
        question = self.question
        if mode is Mode.CLOZE:
            question = _question(question.text, tuple(each.strip() for each in options))
        return replace(self, question=question, options=options, mode=mode)

    def prompt(self, treatment: Treatment, *, chat: bool = True) -> Prompt:
        """The prompt under a treatment; without `chat`, turns become questions and answers."""
        text = passage_block(treatment.passages) + self.block
        if not self.messages:
            examples = self.examples if treatment.examples else ""
            return Prompt(self.head + examples + text, adapter=treatment.adapter)
        turns = self.messages
        if self.turn >= 0:
            changed = replace(turns[self.turn], content=self.head + text)
            turns = (*turns[: self.turn], changed, *turns[self.turn + 1 :])
            if self.question.options and not treatment.examples:
                turns = (changed,)
        if chat:
            return Prompt(messages=turns, adapter=treatment.adapter)
        return Prompt(_as_text(turns), adapter=treatment.adapter)


def asked_in_text(text: str) -> Asked:
    """Find the question of a plain prompt: its last block."""
    if text.endswith(_PLAIN_END):
        found = _EXAMPLE_END.finditer(text)
        start = max((match.end() for match in found), default=0)
        lead = _DESCRIPTION.match(text)
        head = lead.end() if lead else 0
        start = max(start, head)
        # An example's answer may have several lines.
        later = text.rfind(_NEXT, start)
        start = start if later < 0 else later + 2
        block = text[start:]
        question = _lettered(block, _PLAIN_END) or _open(block)
        return Asked(question, block, text[:head], text[head:start])
    return Asked(_question(text), text)


def asked_in_chat(messages: Sequence[Message]) -> Asked:
    """Find the question of a conversation: the user's last turn, with what it refers to."""
    turns = tuple(messages)
    places = [n for n, turn in enumerate(turns) if turn.role == "user"]
    if not places:
        return Asked(_question(""), "", messages=turns)
    turn = places[-1]
    text = turns[turn].content
    lead = _DESCRIPTION.match(text)
    head = text[: lead.end()] if lead else ""
    block = text.removeprefix(head)
    question = _lettered(block, _CHAT_END)
    if question is None:
        question = _question(_in_full([turns[place].content for place in places]))
    return Asked(question, block, head, messages=turns, turn=turn)


def _in_full(said: Sequence[str]) -> str:
    """The user's last turn; behind those before, as long as it holds hardly a word of its own."""
    parts: list[str] = []
    for text in reversed(said[-_MOST_TURNS:]):
        parts.insert(0, text)
        words = (word for word in router_words(text) if word.isalnum())
        if sum(word not in FUNCTION_WORDS for word in words) >= _FEWEST_WORDS:
            break
    return "\n".join(parts)


def _lettered(block: str, ending: str) -> Question | None:
    """A question with options on lines of their own, each behind its letter."""
    start = block.rfind("\nA. ")
    if start < 0 or not block.endswith(ending):
        return None
    lines = re.split(r"\n(?=[A-Z]\. )", block[start + 1 :].removesuffix(ending))
    if [line[0] for line in lines] != list(ascii_uppercase[: len(lines)]):
        return None
    return _question(block[:start], tuple(line[3:] for line in lines))


def _open(block: str) -> Question:
    return _question(block.removesuffix(_PLAIN_END).removeprefix("Question: "))


def _question(text: str, options: tuple[str, ...] = ()) -> Question:
    content = repr((text, options)).encode("utf-8", "replace")
    return Question(hashlib.sha256(content).hexdigest()[:16], "", "asked", text, options, "")


def _as_text(turns: Sequence[Message]) -> str:
    """A conversation for a model without a chat template."""
    parts: list[str] = []
    for turn in turns:
        if turn.role == "user":
            parts.append(question_block(turn.content))
        elif turn.role == "assistant" and parts:
            parts[-1] += f" {turn.content}"
        else:
            parts.append(turn.content)
    return "\n\n".join(parts)
