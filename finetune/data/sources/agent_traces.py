"""Traces as a source of training rows, and of questions for those that are held out.

A trace is held out with all others of its task, by a hash of that task alone: none changes its side
when others are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, Misuse
from domainlift.files import text_sha256, write_text
from domainlift.jsonl import json_lines
from engines.chat_template import read_arguments
from finetune.data.cleaning import clean_row, reject_reason
from finetune.data.rows import Row
from finetune.data.unroll import origin, unroll
from finetune.training.tokenize import Encoded, encode_turns
from traces.choose import TraceCriteria, chosen
from traces.secrets import masked
from traces.trace import Trace

Json = dict[str, Any]
QUESTIONS = "questions.jsonl"


@dataclass(frozen=True)
class TraceSource:
    """Which traces are used, by a model with this tokenizer, and the share of them held out."""

    criteria: TraceCriteria
    tokenizer: Any
    max_tokens: int
    hold_out: float = 0.0


@dataclass(frozen=True)
class TraceRows:
    """The rows of traces, and the questions of those that are held out.

    `turns` of the user are rows, held out, or refused (by reason); `left_out` are traces that were
    not chosen, `masked` the secrets in the others, by kind.
    """

    rows: tuple[Row, ...]
    questions: tuple[Json, ...]
    turns: int
    held_out_turns: int
    refused: Counter[str]
    left_out: Counter[str]
    masked: Counter[str]
    tokens_trained: int

    def as_json(self) -> Json:
        """The counts for JSON."""
        # Not asdict: of a Counter it counts the pairs.
        return {**vars(self), "rows": len(self.rows), "questions": len(self.questions)}

    def write_questions(self, folder: Path) -> Path:
        """Write the questions into the folder of a data set."""
        write_text(folder / QUESTIONS, json_lines(self.questions))
        return folder / QUESTIONS


def trace_rows(traces: Iterable[Trace], domain: str, source: TraceSource) -> TraceRows:
    """Choose, mask and unroll traces.

    Raises BenchError where no turn can be learned, or where none or all would be held out.
    """
    kept, left_out = chosen(traces, source.criteria)
    read = [_read(trace, domain, source) for trace in kept]
    learned = [each for each in read if _place(each.trace) >= source.hold_out]
    held_out = [each for each in read if _place(each.trace) < source.hold_out]
    rows, asked = (
        [example.row for each in side for example in each.examples] for side in (learned, held_out)
    )
    refused = sum((each.refused for each in read), Counter[str]())
    turns = len(rows) + len(asked) + refused.total()
    if not rows and not asked:
        raise _nothing(turns, refused, left_out)
    if source.hold_out and not (rows and asked):
        which = "none" if rows else "all"
        what = f"{which} of {len(kept)} traces would be held out"
        raise BenchError(what, "collect more, or change the share")
    return TraceRows(
        tuple(rows),
        tuple(question for each in held_out for question in _questions(each)),
        turns,
        len(asked),
        refused,
        left_out,
        sum((each.masked for each in read), Counter[str]()),
        sum(example.trained for each in learned for example in each.examples),
    )


@dataclass(frozen=True)
class _ReadTrace:
    """A trace without secrets, with the turns that can be learned and the count of others."""

    trace: Trace
    examples: Sequence[Encoded]
    refused: Counter[str]
    masked: Counter[str]


def _read(trace: Trace, domain: str, source: TraceSource) -> _ReadTrace:
    trace, found = masked(trace)
    unrolled = unroll(trace, domain)
    rows = [clean_row(row) for row in unrolled.rows]
    faults = Counter(filter(None, map(reject_reason, rows)))
    good = [row for row in rows if not reject_reason(row)]
    examples, untrainable = encode_turns(good, source.tokenizer, source.max_tokens)
    return _ReadTrace(trace, examples, unrolled.refused + faults + untrainable, found)


def _nothing(turns: int, refused: Counter[str], left_out: Counter[str]) -> BenchError:
    if not refused and not left_out:
        hint = "`bench trace run TASKS` records some, `bench trace import FILE` reads them"
        return Misuse("there are no traces in this workspace", hint)
    told = ", ".join(f"{why} {count:,}" for why, count in (refused + left_out).most_common())
    return BenchError(
        f"none of the {turns:,} turns in traces can be learned: {told}",
        "the template of another `--model` may take them; `bench trace show ID` shows a trace",
    )


def _place(trace: Trace) -> float:
    """Where a trace stands between 0 and 1, with all of its task."""
    # Not the hash that parts training from validation, or these would be the same traces.
    return int(text_sha256(f"held out {origin(trace)}")[:8], 16) / 2**32


def _questions(read: _ReadTrace) -> Iterator[Json]:
    """For each answer of a trace what stands before it, and what is expected: calls, or a text."""
    for turn, row in enumerate((example.row for example in read.examples), 1):
        for place, message in enumerate(row.chain):
            if message.role != "assistant":
                continue
            calls = [_expected(call) for call in message.extra.get("tool_calls", ())]
            before = (*row.messages, *row.chain[:place])
            yield {
                "id": f"{read.trace.id}.{turn}.{place + 1}",
                "domain": row.domain,
                "question": row.messages[-1].content,
                "messages": [each.as_json() for each in before],
                "tools": list(read.trace.tools),
                "answer": calls or message.content,
                "cluster": origin(read.trace),
                "split": "test",
            }


def _expected(call: Json) -> Json:
    function = call["function"]
    return {"name": function["name"], "arguments": read_arguments(function["arguments"])}
