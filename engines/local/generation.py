"""Greedy replies to many requests, for engines of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engines.base import Answer, Request
from engines.local.answers import too_long
from engines.local.tokenization import Encoder
from engines.reply_text import ReplyWriter, TokenReader
from engines.scheduler import ReplyRow, RowModel, Scheduler
from engines.streaming import Sampling


def written_answers(
    model: RowModel,
    encoder: Encoder,
    reader: TokenReader,
    requests: Sequence[Request],
    context: int | None,
) -> Iterator[Answer]:
    """Yield one answer per request, computed in this thread.

    The most likely token is taken at each step.
    """
    rows = {}
    for request, tokens in zip(requests, encoder.prompts(requests), strict=True):
        early = too_long(request, len(tokens) + request.max_tokens, context)
        if early is not None:
            yield early
            continue
        opened = encoder.opened_thought(request)
        sampling = Sampling(stop=request.stop)
        reply = ReplyWriter(reader, sampling, len(tokens), request.max_tokens, opened)
        rows[ReplyRow(tokens, request.prompt.adapter, reply)] = request
    # Neighbours have most in common.
    ordered = sorted(rows, key=lambda row: row.prompt)
    for row, pieces, seconds in Scheduler(model).write(ordered):
        yield Answer(
            rows[row].id,
            text="".join(piece.text for piece in pieces),
            cut_off=pieces[-1].finish == "length",
            prompt_tokens=len(row.prompt),
            output_tokens=len(row.reply.tokens),
            seconds=seconds,
        )
