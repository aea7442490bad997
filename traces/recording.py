"""Traces of tasks: an agent does each, which is recorded as it happens; none is done twice.

Each task has sessions of its own with the servers of tools, so what one does to a server, or a
server to it, does not reach another.

A trace stands for its task where model, system prompt and tools are the same, and the model itself
ended it: it answered, or no longer within the limits.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from domainlift.activity import activity
from domainlift.errors import BenchError, EngineDown, Interrupted
from domainlift.fields import InvalidRow
from domainlift.files import timestamp
from domainlift.stats.intervals import Interval, accuracy_interval
from domainlift.types import Question
from engines.servers.http import stream
from engines.servers.responses import ContextOverflow
from traces.agent import CUT_OFF, EMPTY, AgentEnd, AgentLimits, ChatModel, run_agent
from traces.mcp_tools import ToolSessions
from traces.secrets import masked_head
from traces.store import TraceStore
from traces.tasks import is_solved, task_text
from traces.trace import Json, Trace, TraceStatus, new_id, read_trace_tools

_OVERFLOW, _STOPPED = "the conversation no longer fits the context", "stopped"
_IN_A_ROW = 3


@dataclass(frozen=True)
class CollectSettings:
    """How tasks are done: by which model, with which system prompt, how often, how many at once."""

    model: str
    system: str = ""
    samples: int = 1
    temperature: float = 0.0
    limits: AgentLimits = field(default_factory=AgentLimits)
    parallel: int = 1


@dataclass(frozen=True)
class Collected:
    """The traces of tasks, in their order; the first `skipped` of them were there before."""

    traces: tuple[Trace, ...]
    skipped: int

    @property
    def reasons(self) -> Counter[str]:
        """Why traces have no answer, without secrets, with how many."""
        return Counter(masked_head(trace).why for trace in self.traces if trace.why)

    @property
    def checked(self) -> list[Trace]:
        """Those of which it is known whether they solved their task."""
        return [trace for trace in self.traces if trace.solved is not None]

    @property
    def interval(self) -> Interval:
        """Of the share that is solved; samples of a task are no independent ones."""
        found = self.checked
        return accuracy_interval([float(t.solved is True) for t in found], [t.task for t in found])

    def as_json(self) -> dict[str, Any]:
        """Counts by status and reason, and the share of tasks that were solved."""
        status = Counter(trace.status for trace in self.traces)
        return {
            "traces": [trace.id for trace in self.traces],
            "skipped": self.skipped,
            **{each.value: status[each] for each in TraceStatus},
            "reasons": dict(self.reasons),
            "checked": len(self.checked),
            "solved": sum(trace.solved is True for trace in self.checked),
            "interval": list(self.interval),
        }


@dataclass(frozen=True)
class TraceWork:
    """The traces that there are already, the tasks to do, one for each other trace, and tools."""

    kept: tuple[Trace, ...]
    todo: tuple[Question, ...]
    tools: tuple[Json, ...]

    @property
    def total(self) -> int:
        """The traces that there are in the end."""
        return len(self.kept) + len(self.todo)


def find_work(
    tasks: Sequence[Question],
    tools: Sequence[Json],
    traces: Iterable[Trace],
    settings: CollectSettings,
) -> TraceWork:
    """What is left to do of tasks, each `samples` times, with the traces that there are."""
    found = _settled(tasks, tools, traces, settings)
    kept = {task.id: found[task.id][: settings.samples] for task in tasks}
    todo = [task for task in tasks for _ in range(settings.samples - len(kept[task.id]))]
    return TraceWork(tuple(chain.from_iterable(kept.values())), tuple(todo), tuple(tools))


def collect_traces(
    work: TraceWork,
    model: ChatModel,
    sessions: ToolSessions,
    store: TraceStore,
    settings: CollectSettings,
    step: Callable[[str], None] = lambda _: None,
    interrupt: Callable[[], None] = lambda: None,
) -> Collected:
    """Have an agent do what is left; `step` is told how each task ended.

    Raises EngineDown where the model's server fails again and again, BenchError where those of
    tools end again and again, Interrupted at Ctrl-C; what was recorded stays, and the next call
    goes on. `interrupt` makes requests of the model that are under way in other threads fail.
    """

    def do(numbered: tuple[int, Question]) -> tuple[int, Trace, str]:
        number, task = numbered
        return number, *_record(task, work.tools, model, sessions, store, settings)

    def stop() -> None:
        sessions.stop()
        interrupt()

    made: dict[int, Trace] = {}
    failed = lost = 0
    tasks = stream(enumerate(work.todo), do, settings.parallel, stop, ahead=False)
    try:
        with activity("doing the tasks"), closing(tasks):
            for number, trace, ended in tasks:
                made[number] = trace
                step(trace.status.value)
                failed = failed + 1 if trace.status is TraceStatus.ERROR else 0
                lost = lost + 1 if ended else 0
                if failed == _IN_A_ROW:
                    what = f"{failed} tasks in a row ended in an error: {masked_head(trace).why}"
                    hint = "look after the server (takes its model tools?), then repeat the command"
                    raise EngineDown(what, hint)
                if lost == _IN_A_ROW and len(made) < len(work.todo):
                    what = f"the MCP server `{ended}` ended in {lost} tasks in a row"
                    left = f"{len(work.todo) - len(made)} of {work.total} tasks are left"
                    raise BenchError(f"{what}; {left}", "look after it, then repeat the command")
    except KeyboardInterrupt:
        done = f"{len(work.kept) + len(made)} of {work.total} tasks are done"
        raise Interrupted(f"stopped: {done}", "the same command goes on") from None
    return Collected((*work.kept, *(made[number] for number in sorted(made))), len(work.kept))


def _settled(
    tasks: Sequence[Question],
    tools: Sequence[Json],
    traces: Iterable[Trace],
    settings: CollectSettings,
) -> defaultdict[str, list[Trace]]:
    """The traces of these tasks that need no doing again, by task."""
    ends, known = {CUT_OFF, EMPTY, _OVERFLOW, settings.limits.exceeded}, {task.id for task in tasks}
    wanted = _key(_begun(settings, tools, ""))
    found: defaultdict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        settled = trace.status is TraceStatus.DONE or trace.why in ends
        if settled and trace.task in known and _key(trace) == wanted:
            found[trace.task].append(trace)
    return found


def _key(trace: Trace) -> tuple[str, str, str]:
    """What makes two traces those of one setting: model, system prompt, tools."""
    system = next((each["content"] for each in trace.messages if each["role"] == "system"), "")
    return trace.model, system, json.dumps(trace.tools, sort_keys=True)


def _begun(settings: CollectSettings, tools: Sequence[Json], text: str, task: str = "") -> Trace:
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    messages = (*system, {"role": "user", "content": text})
    described = read_trace_tools(list(tools))
    return Trace(new_id(), timestamp(), settings.model, messages, described, task=task)


def _record(
    task: Question,
    tools: Sequence[Json],
    model: ChatModel,
    sessions: ToolSessions,
    store: TraceStore,
    settings: CollectSettings,
) -> tuple[Trace, str]:
    """Do a task once; the trace as it was stored, and the server of tools that ended, if any."""
    trace = _begun(settings, tools, task_text(task), task.id)
    sampling: dict[str, Any] = {"temperature": settings.temperature}
    if settings.temperature:
        # Of the id: each sample is another one, and can be had again.
        sampling["seed"] = zlib.crc32(trace.id.encode())
    ended = ""
    with store.recording(trace) as recorder:
        try:
            with sessions.open() as toolbox:
                end = run_agent(
                    model, toolbox, trace.messages, settings.limits, sampling, recorder.message
                )
                ended = toolbox.ended
        except ContextOverflow:
            end = AgentEnd(TraceStatus.UNFINISHED, _OVERFLOW)
        except BaseException as error:
            stopped = sessions.stopped.is_set() or not isinstance(error, BenchError | InvalidRow)
            status = TraceStatus.UNFINISHED if stopped else TraceStatus.ERROR
            end = AgentEnd(status, _STOPPED if stopped else str(error))
            if stopped or isinstance(error, EngineDown):
                recorder.end(end.status, end.why)
                raise
        failed = end.status is TraceStatus.ERROR
        recorder.end(end.status, end.why, None if failed else is_solved(task, end.answer))
    return store.read(trace.id), ended
