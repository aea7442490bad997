"""`bench feedback`: marks on served answers, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption, command_group
from domainlift.hints import copyable
from domainlift.text.display import one_line, printable
from improve.feedback.accept import accept
from improve.feedback.marks import FeedbackMark, FeedbackStore, MarkState, count_marks
from improve.feedback.reply_log import ReplyLog
from reports.terminal import print_json, print_table

feedback = command_group("Mark answers as right or wrong, and learn from corrections.")
MarkId = Annotated[str, typer.Argument(metavar="ID", help="Id of a reply, or its beginning.")]


@feedback.command("add")
def feedback_add(
    reply: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a reply, its beginning, or `latest`.")
    ],
    verdict: Annotated[str, typer.Argument(help="right or wrong.")],
    correction: Annotated[str, typer.Option(help="The right answer.")] = "",
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Mark a served reply; a later mark on the same reply takes the place of an earlier one.

    Example: bench feedback add latest wrong --correction "28 days"
    """
    mark = FeedbackStore(workspace).add(ReplyLog(workspace).get(reply), verdict, correction)
    if as_json:
        print_json(_row(mark))
        return
    use = copyable(f"`bench feedback accept {mark.id[:8]}`")
    print(f"marked {mark.id} as {mark.verdict}; {use} uses it")


@feedback.command("list")
def feedback_list(
    every: Annotated[
        bool, typer.Option("--all", help="Also what was accepted or rejected.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """List the marks that wait for a decision.

    Example: bench feedback list
    """
    store = FeedbackStore(workspace)
    marks = store.marks(None if every else MarkState.QUEUED)
    if as_json:
        print_json([_row(mark) for mark in marks])
        return
    columns = ("id", "state", "verdict", "becomes", "version", "domain", "question", "right answer")
    print_table(columns, (_cells(mark) for mark in marks))
    states = Counter(
        state for (_, state), n in count_marks(store.marks()).items() for _ in range(n)
    )
    print(", ".join(f"{states[state]:,} {state}" for state in MarkState))


@feedback.command("show")
def feedback_show(
    mark_id: MarkId, workspace: WorkspaceOption = WORKSPACE, as_json: Json = False
) -> None:
    """Show a mark with the question, the answer, and the passages that it came from.

    Example: bench feedback show 1f0c2a9b
    """
    mark = FeedbackStore(workspace).get(mark_id)
    if as_json:
        print_json(_row(mark))
        return
    print("\n".join(map(printable, _lines(mark))))


@feedback.command("accept")
def feedback_accept(
    mark_id: MarkId,
    domain: Annotated[str, typer.Option(help="[default: the one that it was routed to]")] = "",
    correction: Annotated[str, typer.Option(help="The right answer. [default: the mark's]")] = "",
    wrong: Annotated[
        list[str] | None,
        typer.Option(
            help="A wrong option of a question of the exam; several. [default: answers to others]"
        ),
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Make a training row or a question of the exam of a mark; its question's words say which.

    Example: bench feedback accept 1f0c2a9b --domain handbook
    """
    mark = FeedbackStore(workspace).get(mark_id)
    path = accept(workspace, mark, domain, correction, wrong if wrong is not None else ())
    print(f"accepted {mark.id}: in {path}")


@feedback.command("reject")
def feedback_reject(
    mark_id: MarkId,
    why: Annotated[str, typer.Option(help="For the record.")] = "",
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Take a mark out of the queue; nothing is made of it.

    Example: bench feedback reject 1f0c2a9b --why "the answer was right"
    """
    store = FeedbackStore(workspace)
    mark = store.get(mark_id)
    store.decide(mark, MarkState.REJECTED, why)
    print(f"rejected {mark.id}")


def _row(mark: FeedbackMark) -> Mapping[str, Any]:
    """A mark as one object: the reply's keys, and its own."""
    values = asdict(mark)
    return {**values.pop("reply"), "marked": values.pop("when"), **values}


def _cells(mark: FeedbackMark) -> tuple[str, ...]:
    reply = mark.reply
    texts = (reply.version, reply.domain or "–", reply.question, mark.right or "not known")
    head = (mark.id[:8], mark.state.value, mark.verdict.value, mark.use.value)
    return (*head, *(printable(one_line(text, 48)) for text in texts))


def _lines(mark: FeedbackMark) -> Iterator[str]:
    reply = mark.reply
    yield f"{mark.id}  {mark.verdict}, {mark.state}{f': {mark.why}' if mark.why else ''}"
    yield f"version      {reply.version} ({reply.plan[:12]}), answered by {reply.model}"
    yield f"domain       {reply.domain or 'none'}, a question for the {mark.use}"
    yield f"question     {one_line(reply.question)}"
    yield f"answer       {one_line(reply.answer)}"
    yield f"right        {one_line(mark.right) or 'not known'}"
    for passage in reply.passages:
        yield f"passage      {passage['source']}: {one_line(passage['text'], 300)}"
