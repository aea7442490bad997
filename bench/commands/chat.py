"""`bench chat`: a conversation with the assistant that a plan makes."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from types import FrameType

from bench.commands.ask import MaxTokens, PlanModel, PlanOption, opened_assistant, tell_reply
from bench.options import WORKSPACE, Device, KeepReplies, WorkspaceOption
from domainlift.activity import activity
from domainlift.errors import BenchError
from domainlift.hints import copyable
from engines.base import Message
from engines.streaming import PromptTooLong, Sampling
from improve.feedback.marks import FeedbackStore
from improve.feedback.reply_log import KEPT, ReplyLog, ServedReply
from reports.origin import show_origin
from reports.terminal import print_note
from serving.asked import asked_in_chat
from serving.assistant import Assistant, PreparedReply
from serving.served import served_reply

_HELP = """/right    the last answer is right; /wrong TEXT: it is not, and TEXT would be
/route    where the last question went, and why
/sources  the passages of the last answer, whole
/reset    begin anew
/quit     end; Ctrl-C ends a reply only"""
_ON_LAST = ("/route", "/sources", "/right", "/wrong")


def chat_command(
    plan: PlanOption = None,
    model: PlanModel = None,
    max_tokens: MaxTokens = 256,
    keep_replies: KeepReplies = KEPT,
    workspace: WorkspaceOption = WORKSPACE,
    device: Device = "auto",
) -> None:
    """Talk with the assistant of a plan; /help lists what else can be typed.

    Example: bench chat
    """
    log = ReplyLog(workspace, keep_replies)
    with opened_assistant(workspace, plan, model, device) as assistant:
        _talk(assistant, Sampling(max_tokens=max_tokens), log, FeedbackStore(workspace))


def _talk(assistant: Assistant, sampling: Sampling, log: ReplyLog, marks: FeedbackStore) -> None:
    turns: list[Message] = []
    last: tuple[PreparedReply, ServedReply] | None = None
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command == "/reset":
            turns, last = [], None
        elif command in _ON_LAST and last is None:
            print("nothing was asked yet")
        elif command in ("/route", "/sources") and last is not None:
            show_origin(last[0].treatment, most=0 if command == "/route" else None)
        elif command in ("/right", "/wrong") and last is not None:
            _mark(marks, last[1], command[1:], rest)
        elif command.startswith("/"):
            print(_HELP)
        else:
            asked = [*turns, Message("user", line)]
            prepared, said = _reply(assistant, asked, sampling)
            turns = [*asked, Message("assistant", said)]
            last = prepared, served_reply(secrets.token_hex(12), line, said, prepared)
            log.add(last[1])


def _mark(marks: FeedbackStore, reply: ServedReply, verdict: str, correction: str) -> None:
    try:
        marks.add(reply, verdict, correction)
    except BenchError as error:
        print_note(error.what)
    else:
        print(copyable(f"marked as {verdict}; `bench feedback list` has it"))


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
