"""`bench ask`: a question to the assistant that a plan makes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from bench.options import WORKSPACE, Device, Json, KeepReplies, WorkspaceOption
from domainlift.activity import activity
from domainlift.text.display import printable
from engines.base import Message
from engines.registry import EngineOptions
from engines.streaming import ReplyDelta, Sampling
from improve.feedback.reply_log import KEPT, ReplyLog
from reports.origin import show_origin
from reports.terminal import print_json
from serving.asked import asked_in_chat
from serving.assistant import Assistant, open_assistant
from serving.served import served_reply

PlanOption = Annotated[
    Path | None,
    typer.Option(help="A plan of `bench improve`. [default: the last that was promoted]"),
]
PlanModel = Annotated[
    str | None,
    typer.Option("--model", "-m", help="What answers. [default: the plan's model]"),
]
MaxTokens = Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")]


def ask_command(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    plan: PlanOption = None,
    model: PlanModel = None,
    max_tokens: MaxTokens = 256,
    keep_replies: KeepReplies = KEPT,
    workspace: WorkspaceOption = WORKSPACE,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Answer a question by a plan, and show what the answer comes from.

    Where the plan's documents hold no answer, it says so.

    Example: bench ask "How many days of leave are there?"
    """
    with opened_assistant(workspace, plan, model, device) as assistant:
        started = time.perf_counter()
        prepared = assistant.prepare(asked_in_chat([Message("user", question)]))
        sampling = Sampling(max_tokens=max_tokens)
        with closing(assistant.stream(prepared, sampling, strict=True)) as deltas:
            text, tokens = tell_reply(deltas, quiet=as_json)
    reply = served_reply(secrets.token_hex(12), question, text, prepared)
    ReplyLog(workspace, keep_replies).add(reply)
    if not as_json:
        show_origin(prepared.treatment)
        return
    seconds = round(time.perf_counter() - started, 3)
    told = {"answer": text, **prepared.as_json(), "tokens": tokens, "seconds": seconds}
    print_json({**told, "id": reply.id, "version": reply.version})


@contextmanager
def opened_assistant(
    workspace: Path, plan: Path | None, model: str | None, device: str
) -> Iterator[Assistant]:
    """The assistant of a command, closed after it."""
    with activity("loading the model"):
        assistant = open_assistant(workspace, plan, model, EngineOptions(device))
    with closing(assistant):
        yield assistant


def tell_reply(deltas: Iterable[ReplyDelta], *, quiet: bool = False) -> tuple[str, int]:
    """Print a reply as it grows; its text and the number of its tokens."""
    text, tokens = "", 0
    for delta in _shown(deltas):
        # The white space that a template leaves at the beginning is no part of an answer.
        piece = delta.text if text else delta.text.lstrip()
        text, tokens = text + piece, delta.output_tokens
        if piece and not quiet:
            print("\n".join(map(printable, piece.split("\n"))), end="", flush=True)
    if not quiet:
        print(flush=True)
    return text.rstrip(), tokens


def _shown(deltas: Iterable[ReplyDelta]) -> Iterator[ReplyDelta]:
    """The same, once more than the first is there without a word of what goes on: it shows."""
    pieces = iter(deltas)
    yield from islice(pieces, 1)
    with activity(""):
        yield from pieces
