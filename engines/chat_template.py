"""Chat templates: what one does beside writing the turns, and how chats are rendered with it.

What a template does is found by rendering probes, as llama.cpp does it. System turns that it
leaves out or refuses go before the first user turn, as is usual for Gemma and Mistral.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from domainlift.errors import Misuse
from engines.base import Message
from engines.jinja_templates import compiled
from engines.thought_markers import empty_ending, opened_thought

#: The date that templates get to write: that of Llama 3.1's template where there is no clock.
DATE = datetime(2024, 7, 26)
_OTHER_DATE = datetime(2031, 2, 3)
#: Variables by which templates are told whether to think.
_SWITCHES = ("enable_thinking", "thinking")
_SYSTEM, _USER, _ANSWER, _NEXT, _RESULT, _TOOL, _THOUGHT = (
    f"{word}probe"
    for word in ("pebble", "lantern", "orchard", "meadow", "harbour", "kettle", "fog")
)
_TOOLS = [{"type": "function", "name": _TOOL, "function": {"name": _TOOL, "description": _TOOL}}]


@dataclass(frozen=True)
class TemplateTraits:
    """What a chat template does beside writing the turns.

    `opens` is the text at a prompt's end that begins a thought; `lost` and `refused` name what is
    left out, and what is raised for: "system", "tool" (turns), "tools", "earlier" (turns);
    `keeps_reasoning` says that `reasoning_content` of an answer is written. `ending` follows the
    last answer, `appends` says that no other answer is followed by it.
    """

    opens: str = ""
    switched: bool = False
    dated: bool = False
    lost: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    drops_thoughts: bool = False
    keeps_reasoning: bool = False
    ending: str = ""
    appends: bool = False

    def notes(self) -> Iterator[str]:
        """Sentences for the user."""
        if self.opens:
            mark = self.opens.strip()
            yield (
                f"the chat template begins every reply with a thought (`{mark}`): it is cut off, "
                "and letters are read after an empty one"
            )
        if self.switched:
            yield "the chat template is told not to think, as servers are"
        if self.dated:
            yield f"the chat template writes the date, which stays {DATE:%d %b %Y} here"
        for verb, names in (("leaves out", self.lost), ("refuses", self.refused)):
            yield from (
                f"the chat template {verb} {_WAYS[name]}" for name in names if name in _WAYS
            )
        if self.drops_thoughts:
            yield "the chat template leaves out the thoughts of earlier answers"
        if self.appends:
            ending = json.dumps(self.ending, ensure_ascii=False)[1:-1]
            yield (
                f"the chat template writes `{ending}` after the last answer; "
                "what follows its first special token is not trained"
            )

    def options(self) -> dict[str, str | bool]:
        """What decides answers otherwise than the template alone; part of a run's fingerprint."""
        return {
            **({"empty_thought": True} if self.opens else {}),
            **({"think": False} if self.switched else {}),
            **({"date": f"{DATE:%Y-%m-%d}"} if self.dated else {}),
        }


_NAMES = {
    "system": "system turns",
    "tool": "the results of tools",
    "tools": "the list of tools",
    "earlier": "turns",
}
# Not of lists of tools: most templates leave them out, and few chats have one.
_WAYS = {
    "system": "system turns: they are put before the first user turn",
    "tool": "the results of tools: chats with them are refused",
    "earlier": "turns: chats of several are refused",
}


class ChatTemplate:
    """The chat template of a tokenizer; `None` of a template where it has none."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def traits(self) -> TemplateTraits:
        """What the template does, found by probes; nothing where there is none."""
        return TemplateTraits() if self._tokenizer.chat_template is None else _probed(self)

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Any] | None = None,
        *,
        thinks: bool = False,
        generation: bool = True,
    ) -> str:
        """The prompt of a chat, up to where the answer begins; without `generation` the chat alone.

        Reasoning since the user's last turn becomes a part of what is said where the template has
        no place for it. Raises Misuse where the template refuses the chat, or would leave out a
        part of it.
        """
        turns = [turn_of(each) for each in messages]
        if not self.traits.keeps_reasoning:
            turns = _thinking_aloud(turns)
        if "system" in (*self.traits.lost, *self.traits.refused):
            turns = _merged(turns)
        there = {turn["role"] for turn in turns}
        there |= {"tools"} if tools is not None else set()
        there |= {"earlier"} if len(turns) > 1 + ("system" in there) else set()
        for lost in self.traits.lost:
            if lost in there:
                raise Misuse(f"the model's chat template leaves out {_NAMES[lost]}", _PLAIN)
        try:
            prompt = self.render(turns, tools=tools, thinks=thinks, generation=generation)
        # Templates raise whatever they like for turns that they do not take.
        except Exception as error:
            first = " ".join(str(error).split())[:200]
            raise Misuse(f"the model's chat template refuses this chat: {first}", _PLAIN) from error
        # The end of a turn may lack its blanks, and nothing else: some cut, escape or skip turns.
        for turn in turns:
            if turn["role"] in ("system", "user") and turn["content"].strip() not in prompt:
                what = f"a turn of the {turn['role']}"
                raise Misuse(f"the model's chat template changes or leaves out {what}", _PLAIN)
        if any(name not in prompt for turn in turns for name in _called(turn)):
            raise Misuse("the model's chat template leaves out calls of tools", _PLAIN)
        return prompt

    def render(
        self,
        turns: Sequence[dict[str, Any]],
        *,
        tools: Any = None,
        thinks: bool | None = False,
        date: datetime = DATE,
        generation: bool = True,
    ) -> str:
        """What the template makes of turns; `thinks=None` leaves the choice to it."""
        source = self._tokenizer.chat_template
        if not isinstance(source, str):  # several by name
            source = source["tool_use" if tools and "tool_use" in source else "default"]
        variables = {**self._tokenizer.special_tokens_map, "strftime_now": date.strftime}
        return str(
            compiled(source).render(
                messages=list(turns),
                tools=tools,
                add_generation_prompt=generation,
                **variables,
                **({} if thinks is None else dict.fromkeys(_SWITCHES, thinks)),
            )
        )

    def after_thought(self, prompt: str) -> str:
        """A prompt without a thought to be written: one that it opens is closed, empty."""
        opens = self.traits.opens
        return prompt + empty_ending(opens) if opens and prompt.endswith(opens) else prompt


_PLAIN = "score it as plain text (`--no-chat`), or train on rows of `prompt` and `completion`"


def turn_of(message: Message) -> dict[str, Any]:
    """A message as templates read it: the arguments of calls are objects there, not their JSON."""
    turn = message.as_json()
    if turn.get("tool_calls"):
        turn["tool_calls"] = [_with_arguments(call) for call in turn["tool_calls"]]
    return turn


def is_user_turn(role: str, content: str) -> bool:
    """Whether a turn is of the user, and not a tool's result that is given as one."""
    said = content.strip()
    is_result = said.startswith("<tool_response>") and said.endswith("</tool_response>")
    return role == "user" and not is_result


def _thinking_aloud(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with the reasoning since the user's last one as text before what is said."""
    asked = [n for n, turn in enumerate(turns) if is_user_turn(turn["role"], turn["content"])]
    last = asked[-1] if asked else -1
    return [
        {**turn, "content": f"<think>\n{thought.strip()}\n</think>\n\n{turn['content']}".strip()}
        if n > last and (thought := str(turn.get("reasoning_content") or ""))
        else turn
        for n, turn in enumerate(turns)
    ]


def _called(turn: Mapping[str, Any]) -> set[str]:
    """The names of the functions that a turn calls."""
    return {str(call["function"].get("name", "")) for call in turn.get("tool_calls") or ()}


def _with_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of a tool in the form of OpenAI's API, its arguments read from their JSON text."""
    function = dict(call.get("function") or {})
    if "arguments" in function:
        function["arguments"] = read_arguments(function["arguments"])
    return {**call, "function": function}


def read_arguments(arguments: Any) -> Any:
    """The arguments of a call, which are JSON text in OpenAI's form; what is none as it is."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments


def _merged(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with the text of system turns before the first of the user."""
    said = [turn["content"] for turn in turns if turn["role"] == "system"]
    rest = [turn for turn in turns if turn["role"] != "system"]
    at = next((i for i, turn in enumerate(rest) if turn["role"] == "user"), None)
    if said and at is None:
        return [{"role": "user", "content": "\n\n".join(said)}, *rest]
    return [
        {**turn, "content": "\n\n".join([*said, turn["content"]])} if i == at else turn
        for i, turn in enumerate(rest)
    ]


# --- probes


def _probed(template: ChatTemplate) -> TemplateTraits:
    def shown(*turns: tuple[str, str], **settings: Any) -> str | None:
        try:
            return template.render([{"role": r, "content": c} for r, c in turns], **settings)
        except Exception:  # whatever a template raises
            return None

    system, user, answer = ("system", _SYSTEM), ("user", _USER), ("assistant", _ANSWER)
    again, call = (
        ("user", _NEXT),
        ("assistant", f'<tool_call>\n{{"name": "{_TOOL}"}}\n</tool_call>'),
    )
    alone = shown(user)
    if alone is None:
        return TemplateTraits()
    talk = shown(user, answer, again)
    told = {
        "system": (shown(system, user), (_SYSTEM,)),
        "tool": (shown(user, call, ("tool", _RESULT)), (_RESULT,)),
        "tools": (shown(user, tools=_TOOLS), (_TOOL,)),
        "earlier": (talk, (_USER, _ANSWER, _NEXT)),
    }
    thinking = ("assistant", f"<think>\n{_THOUGHT}\n</think>\n\n{_ANSWER}")
    thoughtful = shown(user, thinking, again) or ""
    reasoning = {"role": "assistant", "content": _ANSWER, "reasoning_content": _THOUGHT}
    try:
        reasoned = template.render([{"role": "user", "content": _USER}, reasoning])
    except Exception:  # as above
        reasoned = ""
    written = shown(user, answer, generation=False) or ""
    ending = written.rpartition(_ANSWER)[2] if _ANSWER in written else ""
    between = (talk or "").partition(_ANSWER)[2].partition(_NEXT)[0]
    mark = opened_thought(alone)
    return TemplateTraits(
        opens=alone[alone.rindex(mark) :] if mark else "",
        switched=alone != shown(user, thinks=None),
        dated=any(
            shown(*turns) != shown(*turns, date=_OTHER_DATE) for turns in ((user,), (system, user))
        ),
        lost=tuple(
            name
            for name, (text, words) in told.items()
            if text is not None and any(w not in text for w in words)
        ),
        refused=tuple(name for name, (text, _) in told.items() if text is None),
        drops_thoughts=_ANSWER in thoughtful and _THOUGHT not in thoughtful,
        keeps_reasoning=_THOUGHT in reasoned,
        ending=ending,
        appends=bool(ending and between and not between.startswith(ending.rstrip())),
    )
