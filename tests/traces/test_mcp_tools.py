"""Tools of MCP servers: a real server, over stdio and HTTP, and all that it does wrong."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mcp")

from mcp_types import Tool

from domainlift.errors import BenchError, Misuse, NoSuch
from tests.helpers import mcp_server
from traces import mcp_tools
from traces.mcp_tools import CallLimits, Toolbox, ToolSessions, chosen_tools, tool_sessions

SCRIPT = Path(mcp_server.__file__)
COMMAND = shlex.join([sys.executable, str(SCRIPT)])
QUICK = CallLimits(seconds=20, characters=2_000)


@contextmanager
def open_tools(*given: Any, **limits: Any) -> Iterator[Toolbox]:
    with tool_sessions(*given, **limits) as sessions, sessions.open() as tools:
        yield tools


@pytest.fixture(scope="module")
def stdio() -> Iterator[Toolbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_API_KEY", "a-secret-of-mine")
        with open_tools([COMMAND], limits=QUICK) as tools:
            yield tools


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


def test_tools_have_openais_form(stdio: Toolbox) -> None:
    add = next(tool for tool in stdio.tools if tool["function"]["name"] == "add")
    assert add["type"] == "function"
    assert add["function"]["description"] == "The sum of two numbers."
    assert add["function"]["parameters"]["required"] == ["a", "b"]


RESULTS = [
    ("add", {"a": 2, "b": 3}, "5"),
    ("capital", {"country": "Norway"}, "Oslo"),
    ("pictures", {}, "A dot:\n[image, image/png, 4 characters]"),
    ("table", {}, '{\n  "one": 1\n}'),
    ("fail", {}, "error: Error executing tool fail"),
    ("refuse", {}, "error: `refuse` failed: the quota is used up"),
    ("instruct", {}, mcp_server.INSTRUCTION),
    ("nothing", {}, "error: there is no tool `nothing`; there are: capital, add, "),
    ("add", {"a": "x"}, "error: Error executing tool add: "),
]


@pytest.mark.parametrize(("name", "arguments", "begins"), RESULTS)
def test_a_call_gives_a_text(
    stdio: Toolbox, name: str, arguments: dict[str, object], begins: str
) -> None:
    assert stdio.call(name, arguments).startswith(begins)


def test_a_long_result_is_cut_with_a_note(stdio: Toolbox) -> None:
    text = stdio.call("huge", {"characters": 2_000_000})
    assert text == "x" * 2_000 + "\n[1,998,000 of 2,000,000 characters left out]"


def test_secrets_of_the_environment_stay_here(stdio: Toolbox) -> None:
    variables = json.loads(stdio.call("environment", {}))
    assert "PATH" in variables
    assert "MY_API_KEY" not in variables
    assert "a-secret-of-mine" not in variables.values()


def test_a_call_that_hangs_is_given_up_and_the_next_one_works() -> None:
    with open_tools([COMMAND], limits=CallLimits(0.5)) as tools:
        assert tools.call("sleep", {"seconds": 1}) == "error: `sleep` gave no result within 0.5 s"
        assert tools.call("add", {"a": 1, "b": 1}) == "2"
        assert tools.ended == ""


def test_a_server_that_dies_is_told_once() -> None:
    told: list[str] = []
    with open_tools([COMMAND], ["die", "add"], QUICK, told.append) as tools:
        for name in ("die", "add", "add"):
            assert tools.call(name, {}) == f"error: the server of `{name}` has ended"
        assert tools.ended
    [line] = told
    assert "has ended (it said: out of memory)" in line


def test_tools_over_http(port: int) -> None:
    url = f"http://127.0.0.1:{port}/mcp"
    with open_tools([url], limits=QUICK) as tools:
        assert tools.call("add", {"a": 2, "b": 3}) == "5"
        assert tools.call("huge", {}).endswith("9,998,000 of 10,000,000 characters left out]")
        assert tools.call("die", {}) == "error: the server of `die` has ended"
        assert tools.ended == url


def test_tools_of_one_name_get_the_number_of_their_server() -> None:
    told: list[str] = []
    with open_tools([COMMAND, COMMAND], ["add", "server2_add"], QUICK, told.append) as tools:
        assert [tool["function"]["name"] for tool in tools.tools] == ["add", "server2_add"]
        assert tools.call("server2_add", {"a": 1, "b": 1}) == "2"
    assert "two tools are named `add`: the later one is `server2_add`" in told


def test_many_tools_are_a_warning_and_too_many_must_be_named() -> None:
    told: list[str] = []
    names = [f"t{number}" for number in range(60)]
    assert chosen_tools(names[:25], (), told.append) == names[:25]
    assert not told
    assert chosen_tools(names[:50], (), told.append) == names[:50]
    assert "50 tools are many" in told[0]
    assert chosen_tools(names, ("t9", "t9"), told.append) == ("t9",)
    with pytest.raises(Misuse, match="51 tools") as error:
        chosen_tools(names[:51], (), told.append)
    assert "--tools t0,t1" in str(error.value.hint)
    with pytest.raises(NoSuch, match="`t90`"):
        chosen_tools(names, ("t90",), told.append)


@pytest.mark.parametrize(
    ("server", "what"),
    [
        (
            "no-such-command --key sk-abcdefghijklmnop",
            r"`no-such-command --key sk-…` cannot.*No such",
        ),
        ("TOKEN=abc x", "`TOKEN=… x`"),
        (f"{sys.executable} -c 'raise SystemExit(\"no\\nlicence\")'", r"\(it said: licence\)"),
        ("http://127.0.0.1:1/mcp", "http://127.0.0.1:1/mcp.*cannot be used"),
        ("", "is no command"),
        ("'open", "is no command"),
    ],
)
def test_a_server_that_does_not_start_is_one_line(server: str, what: str) -> None:
    with pytest.raises(BenchError, match=what) as error, open_tools([server]):
        pass
    assert "\n" not in error.value.what


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "_START", 0.5)
    silent = f"{sys.executable} -c 'import sys; sys.stdin.read()'"
    with pytest.raises(BenchError, match=r"no answer within 0.5 s"), open_tools([silent]):
        pass


def test_none_is_needed() -> None:
    with open_tools([]) as tools:
        assert tools.tools == ()
        assert tools.call("add", {}) == "error: there is no tool `add`; there are: none"


def test_no_tool_is_lost_where_a_server_has_three_of_one_name() -> None:
    listed = [Tool(name=name, input_schema={}) for name in ("a b", "a.b", "a/b")]
    portal: Any = SimpleNamespace(call=lambda *_: listed)
    server: Any = SimpleNamespace(label="here", client=None, stderr=None)
    tools = Toolbox(ToolSessions(portal, (), (), QUICK, lambda _: None), [server])
    names = [tool["function"]["name"] for tool in tools.tools]
    assert names == ["a_b", "server1_a_b", "server1_2_a_b"]
