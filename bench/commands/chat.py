"""`bench chat`: a conversation with the assistant that a plan makes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING

from bench.commands.ask import MaxTokens, PlanModel, PlanOption, opened_assistant, tell_reply
from bench.options import WORKSPACE, Device, WorkspaceOption
from domainlift.activity import activity
from engines.base import Message
from engines.streaming import PromptTooLong, Sampling
from reports.origin import show_origin
from reports.terminal import print_note
from serving.asked import asked_in_chat

if TYPE_CHECKING:
    from types import FrameType

    from serving.assistant import Assistant, PreparedReply

_HELP = """/route    where the last question went, and why
/sources  the passages of the last answer, whole
/reset    begin anew
/quit     end; Ctrl-C ends a reply only"""


def chat_command(
    plan: PlanOption = None,
    model: PlanModel = None,
    max_tokens: MaxTokens = 256,
    workspace: WorkspaceOption = WORKSPACE,
    device: Device = "auto",
) -> None:
    """Talk with the assistant of a plan; /help lists what else can be typed.

    Example: bench chat
    """
    with opened_assistant(workspace, plan, model, device) as assistant:
        _talk(assistant, Sampling(max_tokens=max_tokens))


def _talk(assistant: Assistant, sampling: Sampling) -> None:
    turns: list[Message] = []
    last: PreparedReply | None = None
    for line in _lines():
        if line == "/quit":
            return
        if line == "/reset":
            turns, last = [], None
        elif line in ("/route", "/sources"):
            if last is None:
                print("nothing was asked yet")
            else:
                show_origin(last.treatment, most=0 if line == "/route" else None)
        elif line.startswith("/"):
            print(_HELP)
        else:
            asked = [*turns, Message("user", line)]
            last, said = _reply(assistant, asked, sampling)
            turns = [*asked, Message("assistant", said)]


def _reply(
    assistant: Assistant, turns: Sequence[Message], sampling: Sampling
) -> tuple[PreparedReply, str]:
    """Tell the reply to the last turn; of a conversation beyond the context, the end is read."""
    for dropped in count(step=2):
        prepared = assistant.prepare(asked_in_chat(turns[dropped:]))
        with closing(assistant.stream(prepared, sampling, strict=True)) as deltas:
            said: list[str] = []
            try:
                with _stopped_by_ctrl_c():
                    said.append(tell_reply(deltas)[0])
                return prepared, "".join(said)
            except PromptTooLong as error:
                if dropped + 2 >= len(turns):
                    print_note(error.what)
                    return prepared, ""
    raise AssertionError("counting has no end")


@contextmanager
def _stopped_by_ctrl_c() -> Iterator[None]:
    """End the block at Ctrl-C, and nothing else; SIGTERM ends the command all the same."""

    def stop(_: int, __: FrameType | None) -> None:
        raise _ReplyStopped

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except _ReplyStopped:
        print(" …", flush=True)
    finally:
        signal.signal(signal.SIGINT, before)


class _ReplyStopped(Exception):
    """Ctrl-C was pressed during a reply."""


def _lines() -> Iterator[str]:
    """What is typed, line by line, without empty ones."""
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401 - lines can be edited and called back

        print("/help lists the commands")
    while True:
        try:
            with activity(""):
                line = input("> " if typed else "").strip()
        except EOFError:
            return
        if line:
            yield line
