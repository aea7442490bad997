"""Prompts: from a question and its treatment to an engine's request.

The order within a prompt is fixed: description, examples, passages, question. What many questions
share comes first, so that it is computed once; passages differ from question to question and
therefore stand after the examples.

In letter layout the plain prompt is, byte for byte, that of lm-eval's `mmlu` tasks; in open layout
that of its `arc` and `gsm8k` tasks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

from benchmarks.scoring.scorer import BY_REFERENCE, READER, asks_yes_or_no
from benchmarks.tasks.base import MAX_TOKENS, Example, Task
from domainlift.errors import Misuse
from domainlift.types import Passage, Question, Treatment
from engines.base import Message, Mode, Prompt, Request
from engines.chat_template import is_user_turn

# A change of any prompt's text must change this number: it is part of a run's fingerprint.
FORMAT = 1

#: What a question with options ends with in a chat.
INSTRUCTION = "Answer with the letter of the right option."
#: Name of a form -> mode, chat, debias.
_FORMS = {
    "letter": (Mode.LETTER, False, False),
    "letter-debiased": (Mode.LETTER, False, True),
    "chat": (Mode.LETTER, True, False),
    "cloze": (Mode.CLOZE, False, False),
    "generate": (Mode.GENERATE, False, False),
}
_BLOCK = re.compile(r"^<passages>\n.*?\n</passages>\n\n", re.DOTALL | re.MULTILINE)
_SAID = ("role", "content")
_CLOSING = re.compile(r"<\s*/(?=\s*passages\b)", re.IGNORECASE)


@dataclass(frozen=True)
class PromptFormat:
    """Format of a task's prompts: scoring mode, number of examples, chat or plain text.

    With `debias`, the prior over letters is divided out before one is chosen.
    """

    mode: Mode
    shots: int
    chat: bool
    debias: bool = False

    @property
    def name(self) -> str:
        """What it is called: letter, letter-debiased, chat (letters there), cloze, generate."""
        if self.mode is not Mode.LETTER:
            return self.mode.value
        if self.chat:
            return "chat"
        return "letter-debiased" if self.debias else "letter"

    @property
    def label(self) -> str:
        """The name and the number of examples: letter/0, cloze/5."""
        return f"{self.name}/{self.shots}"

    @classmethod
    def parse(cls, label: str) -> PromptFormat:
        """The form with this label; Misuse where there is none such."""
        name, _, shots = label.partition("/")
        if name not in _FORMS or not shots.isdecimal():
            raise Misuse(f"`{label}` is no form", f"for instance {', '.join(_FORMS)} with /0 or /5")
        mode, chat, debias = _FORMS[name]
        return cls(mode, int(shots), chat, debias)

    def digest(self, task: Task) -> str:
        """Hash of what decides a task's prompts and scores, besides its data."""
        task_parts = [task.description, task.prerendered, task.stop, task.max_tokens]
        # Not the default scorer: stored runs that name none were scored by it.
        scorer = [] if task.scorer == BY_REFERENCE else [task.scorer.name]
        debias = ["debiased"] if self.debias else []
        reader: list[object] = [READER] if self.mode is Mode.GENERATE else []
        if reader and not scorer and any(map(asks_yes_or_no, task.questions)):
            reader.append("yes or no")  # read since later than the rest, which stays found
        parts = [FORMAT, self.mode, self.shots, self.chat, *task_parts, *scorer, *debias, *reader]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class PromptBuilder:
    """Builder of one task's requests; the text that its prompts share is built once."""

    def __init__(self, task: Task, form: PromptFormat) -> None:
        if form.shots > len(task.examples) and not task.prerendered:
            raise Misuse(
                f"task `{task.name}` has {len(task.examples)} examples, not {form.shots}",
                f"ask for fewer: `--shots {len(task.examples)}`",
            )
        self._task = task
        self._form = form
        self._examples = () if task.prerendered else task.examples[: form.shots]
        self._lettered = form.mode is not Mode.CLOZE and not task.prerendered
        self._shared = self._shared_text(self._examples)
        self._bare = self._shared_text(())
        self._turns = self._shared_turns() if form.chat else ()

    def request(self, question: Question, treatment: Treatment) -> Request:
        """Return the request for one question under one treatment."""
        block = passage_block(treatment.passages) + self._block(question)
        if question.messages:
            return self._chat_request(question, _turns(question, treatment), treatment)
        if self._form.chat:
            before = self._turns if treatment.examples else ()
            description = "" if before else self._description
            turns = (*before, Message("user", description + block))
            return self._chat_request(question, turns, treatment)
        shared = self._shared if treatment.examples else self._bare
        return self._request(question, Prompt(text=shared + block, adapter=treatment.adapter))

    def _chat_request(
        self, question: Question, turns: tuple[Message, ...], treatment: Treatment
    ) -> Request:
        tools = tuple(json.loads(question.tools)) if question.tools else ()
        prompt = Prompt(messages=turns, adapter=treatment.adapter, tools=tools)
        return self._request(question, prompt)

    def _request(self, question: Question, prompt: Prompt) -> Request:
        if self._form.mode is not Mode.GENERATE:
            return Request(question.id, self._form.mode, prompt, self._options(question))
        # Without a stop of its own, a plain reply ends where the next question would begin.
        stop = self._task.stop or (() if self._form.chat else ("\n\n", "Question:"))
        most = self._task.max_tokens or MAX_TOKENS
        return Request(question.id, self._form.mode, prompt, stop=stop, max_tokens=most)

    @property
    def _description(self) -> str:
        return self._task.description if self._lettered else ""

    def _shared_text(self, examples: Sequence[Example]) -> str:
        shots = [self._block(e.question) + " " + self._reply(e) for e in examples]
        return self._description + "".join(shot + "\n\n" for shot in shots)

    def _shared_turns(self) -> tuple[Message, ...]:
        turns: list[Message] = []
        for example in self._examples:
            description = "" if turns else self._description
            turns.append(Message("user", description + self._block(example.question)))
            turns.append(Message("assistant", self._reply(example)))
        return tuple(turns)

    def _block(self, question: Question) -> str:
        if self._task.prerendered:
            return question.text
        if not (self._lettered and question.options):
            return question_block(question.text)
        return lettered_block(question, f"\n{INSTRUCTION}" if self._form.chat else "Answer:")

    def _reply(self, example: Example) -> str:
        question = example.question
        if isinstance(question.answer, str):
            return example.reply if example.reply else question.answer
        if self._lettered:
            return ascii_uppercase[question.answer]
        return question.options[question.answer]

    def _options(self, question: Question) -> tuple[str, ...]:
        """Return the continuations to score; after plain text they begin with a space."""
        if self._task.prerendered:
            return question.options
        seam = "" if self._form.chat else " "
        if self._lettered:
            return tuple(seam + letter for letter in ascii_uppercase[: len(question.options)])
        return tuple(seam + option for option in question.options)


def lettered_block(question: Question, ending: str) -> str:
    """Return a question with its options on lines of their own, each behind its letter."""
    options = [f"{k}. {o}" for k, o in zip(ascii_uppercase, question.options, strict=False)]
    return "\n".join([question.text.strip(), *options, ending])


def _turns(question: Question, treatment: Treatment) -> tuple[Message, ...]:
    """The chat of a question that has one, with passages before the user's last turn."""
    turns = [
        Message(turn["role"], turn["content"], {k: v for k, v in turn.items() if k not in _SAID})
        for turn in json.loads(question.messages)
    ]
    asked = [n for n, turn in enumerate(turns) if is_user_turn(turn.role, turn.content)]
    for last in asked[-1:]:
        passages = passage_block(treatment.passages)
        turns[last] = replace(turns[last], content=passages + turns[last].content)
    return tuple(turns)


def question_block(text: str) -> str:
    """Return a question in open layout; the answer continues it."""
    return f"Question: {text}\nAnswer:"


def passage_block(passages: Sequence[Passage]) -> str:
    """Return passages with numbered sources, fenced so that they read as quotes."""
    if not passages:
        return ""
    lines = [
        f"[{number}] {passage.source}: {passage.text}"
        if passage.source
        else f"[{number}] {passage.text}"
        for number, passage in enumerate(passages, 1)
    ]
    body = _CLOSING.sub("< /", "\n".join(lines))
    return f"<passages>\n{body}\n</passages>\n\n"


def without_passages(text: str) -> str:
    """The text without the blocks of `passage_block`."""
    return _BLOCK.sub("", text)
