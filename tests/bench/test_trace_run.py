"""`bench trace run`: a model behind a server does tasks with the tools of a real MCP server."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from tests.bench.conftest import Bench
from tests.helpers import mcp_server
from tests.helpers.stub_server import Reply, Stub
from traces import recording
from traces.store import TraceStore
from traces.trace import Trace

MCP = shlex.join([sys.executable, mcp_server.__file__])
CHAT, MODELS = "/v1/chat/completions", "/v1/models"
TASKS = [
    {"id": "sum", "question": "What is 1 + 2?", "answer": "3"},
    {"id": "hi", "question": "Say hello."},
]


def said(text: str = "3", **message: Any) -> Reply:
    choice = {"message": {"content": text, **message}, "finish_reason": "stop"}
    return Reply({"choices": [choice]})


def called(name: str, **arguments: Any) -> Reply:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return said("", tool_calls=[{"id": "c1", "type": "function", "function": function}])


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return path


@pytest.fixture
def server(stub: Stub) -> Stub:
    stub.on(MODELS, Reply({"data": [{"id": "m"}]}))
    stub.on(CHAT, said())
    return stub


def test_an_agent_does_tasks_and_each_trace_is_stored(
    bench: Bench, server: Stub, tasks: Path, tmp_path: Path
) -> None:
    server.on(CHAT, called("add", a=1, b=2), said("It is **3**."), said("Hello!"))
    (tmp_path / "system.txt").write_text("Use tools.\n")
    run = ("trace", "run", tasks, "--model", f"{server.url}/v1", "--mcp", MCP, "--tools", "add")
    done = bench(*run, "--system", "system.txt", "--json")
    assert done.code == 0
    told = done.json
    assert (told["done"], told["unfinished"], told["error"], told["skipped"]) == (2, 0, 0, 0)
    assert (told["solved"], told["checked"]) == (1, 1)
    first, second = map(TraceStore(tmp_path / "workspace").read, told["traces"])
    assert [each["role"] for each in first.messages] == [
        *("system", "user", "assistant", "tool", "assistant")
    ]
    assert first.messages[0]["content"] == "Use tools."
    assert first.messages[3]["content"] == "3"
    assert (first.model, first.task, first.solved) == ("m", "tasks.jsonl/sum", True)
    assert (second.task, second.solved, second.status) == ("tasks.jsonl/hi", None, "done")
    assert [tool["function"]["name"] for tool in first.tools] == ["add"]
    [_, body, _] = server.bodies(CHAT)
    assert body["tools"] == list(first.tools)
    assert body["messages"][3]["tool_call_id"] == "c1"


def test_what_is_done_is_not_done_again(bench: Bench, server: Stub, tasks: Path) -> None:
    run = ("trace", "run", tasks, "--model", f"{server.url}/v1")
    assert bench(*run, "--limit", 1).code == 0
    again = bench(*run)
    assert again.code == 0
    assert "2 traces: 2 done (1 were there before)" in again.out
    assert "solved 1 of 1" in again.out
    assert len(server.bodies(CHAT)) == 2
    assert bench(*run, "--json").json["skipped"] == 2
    assert bench(*run, "--system", "Be brief.", "--json").json["skipped"] == 0
    more = bench(*run, "--samples", 2, "--temperature", 0.5, "--json").json
    assert (more["skipped"], more["done"]) == (2, 4)
    seeds = [body["seed"] for body in server.bodies(CHAT)[-2:]]
    assert len(set(seeds)) == 2


def test_a_trace_that_was_killed_is_made_again(
    bench: Bench, server: Stub, tasks: Path, tmp_path: Path
) -> None:
    store = TraceStore(tmp_path / "workspace")
    asked = {"role": "user", "content": "What is 1 + 2?"}
    with store.recording(Trace("t1", "", "m", (asked,), task="tasks.jsonl/sum")):
        pass
    done = bench("trace", "run", tasks, "--model", f"{server.url}/v1", "--json").json
    assert (done["skipped"], done["done"]) == (0, 2)
    assert store.read("t1").status == "unfinished"


def test_errors_are_counted_and_asked_again(bench: Bench, server: Stub, tasks: Path) -> None:
    server.on(CHAT, Reply({"error": "no such luck"}, 400), said("Hello!"))
    run = ("trace", "run", tasks, "--model", f"{server.url}/v1")
    first = bench(*run)
    assert first.code == 1
    assert "1 done, 1 error" in first.out
    assert "1 × the server answered 400: no such luck" in first.out
    assert "1 of 2 traces ended in an error" in first.err
    server.on(CHAT, said())
    again = bench(*run, "--json").json
    assert (again["skipped"], again["done"], again["solved"]) == (1, 2, 1)


def test_a_server_that_fails_again_and_again_ends_the_command(
    bench: Bench, server: Stub, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("One.\n\nTwo.\nThree.\nFour.\n")
    server.on(CHAT, Reply({"error": "this template knows no tools"}, 400))
    done = bench("trace", "run", path, "--model", f"{server.url}/v1")
    assert done.code == 1
    assert "3 tasks in a row ended in an error: the server answered 400: this temp" in done.err
    assert len(server.bodies(CHAT)) == 3


def test_a_secret_in_an_error_is_masked(bench: Bench, server: Stub, tmp_path: Path) -> None:
    key = "hf_" + "aB3" * 12
    path = tmp_path / "tasks.txt"
    path.write_text("One.\nTwo.\nThree.\n")
    server.on(CHAT, Reply({"error": f"no such key: {key}"}, 400))
    for limit in (1, 3):
        said_ = bench("trace", "run", path, "--model", f"{server.url}/v1", "--limit", limit)
        assert said_.code == 1
        assert "no such key: [masked: " in said_.out + said_.err
        assert key not in said_.out + said_.err


def test_a_server_that_does_not_have_the_model_ends_the_command(
    bench: Bench, server: Stub, tasks: Path, tmp_path: Path
) -> None:
    server.on(CHAT, Reply({"error": "no such model"}, 404))
    done = bench("trace", "run", tasks, "--model", f"{server.url}/v1#n")
    assert done.code == 1
    assert "does not serve `n`" in done.err
    [trace] = TraceStore(tmp_path / "workspace").all()
    assert (trace.status, "does not serve `n`" in trace.why) == ("error", True)


def test_a_full_context_is_the_models_own_end(bench: Bench, server: Stub, tasks: Path) -> None:
    server.on(CHAT, Reply({"error": "prompt is too long"}, 400))
    told = bench("trace", "run", tasks, "--model", f"{server.url}/v1", "--json").json
    assert told["reasons"] == {"the conversation no longer fits the context": 2}
    assert (told["unfinished"], told["checked"], told["solved"]) == (2, 1, 0)


def test_a_server_of_tools_that_ends_is_there_again_for_the_next_task(
    bench: Bench, server: Stub, tasks: Path, tmp_path: Path
) -> None:
    first = called("die"), called("add", a=1, b=1), said("2, I think.")
    server.on(CHAT, *first, called("add", a=1, b=1), said("2."))
    done = bench("trace", "run", tasks, "--model", f"{server.url}/v1", "--mcp", MCP)
    assert done.code == 0
    assert done.err.count("has ended (it said: out of memory)") == 1
    one, other = sorted(TraceStore(tmp_path / "workspace").all(), key=lambda t: -len(t.messages))
    assert one.messages[4]["content"] == "error: the server of `add` has ended"
    assert other.messages[2]["content"] == "2"


def test_a_server_of_tools_that_ends_again_and_again_ends_the_command(
    bench: Bench, server: Stub, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("One.\nTwo.\nThree.\nFour.\nFive.\n")
    server.on(CHAT, *(called("die"), said()) * 9)
    done = bench("trace", "run", path, "--model", f"{server.url}/v1", "--mcp", MCP)
    assert done.code == 1
    assert "ended in 3 tasks in a row; 2 of 5 tasks are left" in done.err
    assert len(server.bodies(CHAT)) == 6


def answers(body: dict[str, Any]) -> Reply:
    """Calls the tool that the task names, and says what it gave."""
    asked = next(each["content"] for each in body["messages"] if each["role"] == "user")
    last = body["messages"][-1]
    return said(last["content"]) if last["role"] == "tool" else called(asked)


def test_tasks_side_by_side_have_a_session_each(bench: Bench, server: Stub, tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("sleep\ncount\ncount\n")
    server.on(CHAT, answers)
    run = ("trace", "run", path, "--model", f"{server.url}/v1", "--mcp", MCP)
    done = bench(*run, "--parallel", 2, "--tool-timeout", 8, "--json").json
    traces = [*map(TraceStore(tmp_path / "workspace").read, done["traces"])]
    said_ = [each.messages[-1]["content"] for each in traces]
    # What one task did to its server is not seen by another, and none waits for what hangs.
    assert said_ == ["error: `sleep` gave no result within 8 s", "1", "1"]
    asked = [body["messages"][0]["content"] for body in server.bodies(CHAT)]
    last = len(asked) - 1 - asked[::-1].index("sleep")
    assert asked[:last].count("count") >= 2


def test_ctrl_c_ends_what_runs_side_by_side(server: Stub, tmp_path: Path) -> None:
    path, pids = tmp_path / "tasks.txt", tmp_path / "pids"
    path.write_text("sleep\nslow model\n")
    server.on(
        CHAT, lambda body: Reply(said().body, delay=60) if "slow" in str(body) else answers(body)
    )
    wrapped = shlex.join(["sh", "-c", f"echo $$ >> {shlex.quote(str(pids))}; exec {MCP}"])
    command = [sys.executable, "-m", "bench", "trace", "run", str(path), "--parallel", "2"]
    options = ["--model", f"{server.url}/v1", "--mcp", wrapped, "--workspace", str(tmp_path / "w")]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    store = TraceStore(tmp_path / "w")
    wait_for(lambda: len(server.bodies(CHAT)) == 2)
    wait_for(lambda: any(len(each.messages) == 2 for each in store.all()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped: 0 of 2 tasks are done" in err
    assert "Traceback" not in err
    assert [(each.status, each.why) for each in store.all()] == [("unfinished", "stopped")] * 2
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def wait_for(found: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_leaves_what_was_said(
    bench: Bench, server: Stub, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(model: Any, tools: Any, messages: Any, limits: Any, sampling: Any, tell: Any) -> None:
        tell({"role": "assistant", "content": "Let me"})
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "run_agent", stop)
    done = bench("trace", "run", tasks, "--model", f"{server.url}/v1")
    assert done.code == 130
    assert "stopped: 0 of 2 tasks are done" in done.err
    [trace] = TraceStore(tmp_path / "workspace").all()
    assert (trace.status, trace.why, len(trace.messages)) == ("unfinished", "stopped", 2)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--model", "smollm2"], "`smollm2` is no URL of a server"),
        (["--model", "http://127.0.0.1:1/v1", "--samples", 2], "samples of temperature 0 are one"),
        (["--model", "http://127.0.0.1:1/v1"], "no model server answers"),
    ],
)
def test_misuse_is_one_line(bench: Bench, tasks: Path, options: list[object], what: str) -> None:
    done = bench("trace", "run", tasks, *options)
    assert done.code in (1, 2)
    assert what in done.err
    assert not Path("workspace").exists()
