from __future__ import annotations

import pytest

from tests.helpers.made_traces import call, made_trace, result, said, user
from traces.choose import TraceCriteria, WantedRating, chosen
from traces.marks import LONGEST_TRACE, is_failure, paired_calls, trace_marks
from traces.trace import Rating, Trace, TraceStatus

ROUND = (call({"a": 1}), result("x"), call({"b": 2}), result("y"))


def names(trace: Trace) -> list[str]:
    return [mark.name for mark in trace_marks(trace)]


@pytest.mark.parametrize(
    ("trace", "found"),
    [
        (made_trace(), []),
        (made_trace(user(), said()), []),
        (made_trace(user(), call(), result(), said(), user("Now?"), call(), result(), said()), []),
        (made_trace(user(), *(call(), result()) * 3, said()), ["loop"]),
        (made_trace(user(), call('{"a":1,"b":2}'), result(), call('{"b": 2, "a": 1}'), result(),
                    call({"a": 1, "b": 2}), result(), said()), ["loop"]),
        # The same test after each change is no loop; asking three times in a row is.
        (made_trace(user(), call({"fix": 1}), result("ok"), call(), result("1 failed"),
                    call({"fix": 2}), result("ok"), call(), result("2 failed"),
                    call({"fix": 3}), result("ok"), call(), result("passed"), said()), []),
        (made_trace(user(), call(), result("1"), call(), result("2"), call(), result("3"), said()),
         ["loop"]),
        (made_trace(user(), *ROUND * 2, said()), []),
        (made_trace(user(), *ROUND * 3, said()), ["loop"]),
        (made_trace(user(), said(), user(), said(), user(), said()), ["loop"]),
        (made_trace(user(), said("It is cold. " + "and then " * 9)), ["loop"]),
        (made_trace(user(), said("Title\n" + "-" * 80)), []),
        (made_trace(user(), call(name="wether"), result(), said()), ["tool-errors"]),
        (made_trace(user(), call(name="wether"), result(), said(), tools=()), []),
        (made_trace(user(), call("{"), result(), said()), ["tool-errors"]),
        (made_trace(user(), call("[]"), result(), said()), ["tool-errors"]),
        (made_trace(user(), call(), result("Error: no such city"), said()), ["tool-errors"]),
        (made_trace(user(), call({"x": 1}), result("error: no"), call(), result(), call({"y": 1}),
                    result(), said()), []),
        (made_trace(user(), call(), result()), ["unfinished"]),
        (made_trace(user(), call(), said()), ["unfinished"]),
        (made_trace(user()), ["unfinished"]),
        (made_trace(user(), said(), status=TraceStatus.ERROR, why="HTTP 500"), ["unfinished"]),
        (made_trace(user(), said(" ", reasoning="Hm.")), ["empty-answer"]),
        (made_trace(user(), said("Half"), status=TraceStatus.UNFINISHED, why="cut off at 64"),
         ["unfinished", "cut-off"]),
        (made_trace(user(), said("<think>I have to")), ["cut-off"]),
        (made_trace(user(), said("<think>Hm.</think> 4 degrees.")), []),
        (made_trace(user("a" * LONGEST_TRACE), said()), ["too-long"]),
    ],
)  # fmt: skip
def test_marks(trace: Trace, found: list[str]) -> None:
    assert names(trace) == found
    assert all(mark.text and "\n" not in mark.text for mark in trace_marks(trace))


@pytest.mark.parametrize(
    ("result_", "failed"),
    [
        ("4 degrees", False),
        ("Errors are explained in chapter 4", False),
        ("Error: no such city", True),
        ("[ERROR] no such city", True),
        ("Traceback (most recent call last):\n  File", True),
        ("FileNotFoundError: x", True),
        ("exit code: 2\nstderr", True),
        ("exit code: 0\nok", False),
        ('{"error": "no"}', True),
        ('{"error": null, "city": "Oslo"}', False),
        ('{"isError": true, "content": []}', True),
        ('{"success": false}', True),
        ("{not json", False),
        ("unknown tool `wether`", True),
        ("", False),
    ],
)
def test_what_says_that_a_call_failed(result_: str, failed: bool) -> None:
    assert is_failure(result_) is failed


def test_a_result_belongs_to_the_answer_before_it() -> None:
    again = (
        call(id_="call_1"),
        result("one", "call_1"),
        call(id_="call_1"),
        result("two", "call_1"),
    )
    assert [each.result for each in paired_calls(again)] == ["one", "two"]
    # Models give several calls of one answer the same id.
    twice = call() | {"tool_calls": [*call()["tool_calls"], *call({"b": 1})["tool_calls"]]}
    same = paired_calls((twice, result("one"), result("two")))
    assert [each.result for each in same] == ["one", "two"]
    nameless = {"role": "tool", "content": "by its place"}
    (paired,) = paired_calls((call(), nameless))
    assert (paired.result, paired.arguments) == ("by its place", '{"city": "Oslo"}')


GOOD, BAD = made_trace(id_="g", rating=Rating.GOOD), made_trace(id_="b", rating=Rating.BAD)
SOLVED, FAILED = made_trace(id_="s", solved=True), made_trace(id_="f", solved=False)
OPEN, DROPPED = made_trace(user(), id_="o"), made_trace(id_="d", dropped=True)
ALL = (GOOD, BAD, SOLVED, FAILED, OPEN, DROPPED)


@pytest.mark.parametrize(
    ("criteria", "ids", "left_out"),
    [
        (TraceCriteria(), "gsfo", {"rated bad": 1, "dropped": 1}),
        (TraceCriteria(WantedRating.ANY), "gbsfo", {"dropped": 1}),
        (TraceCriteria(WantedRating.GOOD), "g",
         {"rated bad": 1, "not rated good": 3, "dropped": 1}),
        (TraceCriteria(unmarked=True), "gsf",
         {"rated bad": 1, "marked: unfinished": 1, "dropped": 1}),
        (TraceCriteria(solved=True), "s",
         {"not checked": 2, "rated bad": 1, "not solved": 1, "dropped": 1}),
    ],
)  # fmt: skip
def test_what_is_chosen(criteria: TraceCriteria, ids: str, left_out: dict[str, int]) -> None:
    kept, reasons = chosen(ALL, criteria)
    assert ("".join(trace.id for trace in kept), dict(reasons)) == (ids, left_out)
    assert len(kept) + sum(reasons.values()) == len(ALL)
