"""Tools of MCP servers: listed in OpenAI's form, called with an object, answered with a text.

A server is foreign code, and may hang, die, or say anything at any length. Whatever it does to a
call becomes the text of a result, so that the agent goes on; nothing in a result is interpreted.
A server that is started here gets the few variables that the SDK hands on, and no others.

Sessions with the servers share one event loop, which ends all of them when it is stopped.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, count
from tempfile import TemporaryFile
from threading import Event
from typing import TYPE_CHECKING, Any, TextIO

from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.optional import need
from domainlift.text.display import one_line, without_credentials
from engines.servers.http import is_loopback

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from mcp import Client
    from mcp_types import CallToolResult, Tool

Json = dict[str, Any]
#: So many tools are a warning, and so many too many for a model to choose from.
MANY, TOO_MANY = 25, 50
#: Seconds to start or to list tools, and to end; bytes of one event of a server over HTTP.
_START, _END, _EVENT = 30.0, 5.0, 64 * 2**20
#: What the SDK says of a connection that is lost.
_LOST = "Connection closed"
_VALUE = re.compile(r"\b([A-Z][A-Z0-9_]*=)\S+")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class CallLimits:
    """The seconds that a call may take, and the characters of its result that are kept."""

    seconds: float = 60.0
    characters: int = 10_000


@dataclass
class _Server:
    """A connected server; `ended` once its connection is lost."""

    label: str
    client: Client
    stderr: TextIO
    ended: bool = False


@contextmanager
def tool_sessions(
    servers: Sequence[str],
    wanted: Sequence[str] = (),
    limits: CallLimits = CallLimits(),
    notify: Callable[[str], None] = lambda _: None,
) -> Iterator[ToolSessions]:
    """Sessions with servers, each a command in one text or a URL; of their tools those `wanted`.

    `notify` gets the sentences that a person should see, each once.
    """
    if servers:
        need("mcp", "traces")
    from anyio.from_thread import start_blocking_portal

    # What the SDK logs of a server's output is foreign, and would go straight to the terminal.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            notify(text)

    with start_blocking_portal() as portal:
        yield ToolSessions(portal, servers, wanted, limits, tell)


@dataclass(frozen=True)
class ToolSessions:
    """Opens sessions, also several side by side; `stopped` is set once they were all ended."""

    portal: BlockingPortal
    servers: Sequence[str]
    wanted: Sequence[str]
    limits: CallLimits
    notify: Callable[[str], None]
    stopped: Event = field(default_factory=Event)

    @contextmanager
    def open(self) -> Iterator[Toolbox]:
        """Connect to each server anew, until the block ends.

        BenchError where a server cannot be reached, Misuse where there are too many tools.
        """
        with ExitStack() as stack:
            with activity("starting the servers of tools"):
                connected = (_connected(self.portal, each) for each in self.servers)
                toolbox = Toolbox(self, [stack.enter_context(each) for each in connected])
            yield toolbox

    def stop(self) -> None:
        """End all sessions; calls that wait in other threads raise KeyboardInterrupt."""
        self.stopped.set()
        with suppress(RuntimeError):  # it was stopped before
            self.portal.call(self.portal.stop, True)


class Toolbox:
    """The tools of connected servers; `tools` are in OpenAI's form."""

    def __init__(self, sessions: ToolSessions, servers: Sequence[_Server]) -> None:
        self._sessions, self._servers = sessions, servers
        found, chosen = self._named(), sessions.wanted
        self._tools = {name: found[name] for name in chosen_tools(found, chosen, sessions.notify)}
        self.tools = tuple(_in_openai_form(name, tool) for name, (_, tool) in self._tools.items())

    @property
    def ended(self) -> str:
        """The first server that has ended, "" while all are there."""
        return next((server.label for server in self._servers if server.ended), "")

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The text that a call results in; an error is a text that begins with `error:`."""
        if name not in self._tools:
            names = ", ".join(self._tools) or "none"
            return f"error: there is no tool `{one_line(name, 60)}`; there are: {names}"
        server, tool = self._tools[name]
        if server.ended:
            return f"error: the server of `{name}` has ended"
        try:
            result = self._sessions.portal.call(
                self._ask, server.client, tool.name, dict(arguments)
            )
        except TimeoutError:
            return f"error: `{name}` gave no result within {self._sessions.limits.seconds:g} s"
        except Exception as error:  # a server may provoke any; the agent goes on
            if self._sessions.stopped.is_set():
                raise KeyboardInterrupt from error
            return self._failed(server, name, error)
        return result_text(result, self._sessions.limits.characters)

    async def _ask(self, client: Client, name: str, arguments: Json) -> CallToolResult:
        import anyio

        with anyio.fail_after(self._sessions.limits.seconds):
            return await client.call_tool(name, arguments)

    def _failed(self, server: _Server, name: str, error: Exception) -> str:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        # The code alone is also that of an event that breaks off, and of servers' own errors.
        lost = CONNECTION_CLOSED, _LOST
        if not isinstance(error, MCPError) or (error.code, error.message) != lost:
            return f"error: `{name}` failed: {_said(error)}"
        server.ended = True
        last = _last_line(server.stderr)
        self._sessions.notify(
            f"the MCP server `{server.label}` has ended{last}; the next task starts it anew"
        )
        return f"error: the server of `{name}` has ended"

    def _named(self) -> dict[str, tuple[_Server, Tool]]:
        """All tools by name; one whose name is taken gets its server's number."""
        found: dict[str, tuple[_Server, Tool]] = {}
        for number, server in enumerate(self._servers, 1):
            try:
                listed = self._sessions.portal.call(_listed, server.client)
            except Exception as error:
                raise _unusable(server.label, error, server.stderr) from error
            for tool in listed:
                plain = _NO_NAME.sub("_", tool.name)[:60] or "tool"
                own = f"server{number}_"
                others = (f"{own}{n}_{plain}"[:64] for n in count(2))
                names = chain([plain, f"{own}{plain}"[:64]], others)
                name = next(each for each in names if each not in found)
                if name != plain:
                    told = f"two tools are named `{plain}`: the later one is `{name}`"
                    self._sessions.notify(told)
                found[name] = server, tool
        return found


def chosen_tools(
    known: Iterable[str], wanted: Sequence[str], notify: Callable[[str], None]
) -> Sequence[str]:
    """The names of tools that a model is given: those `wanted`, or all.

    `notify` is told where they are many. NoSuch for one that is not known, Misuse for too many.
    """
    names = list(known)
    for name in wanted:
        if name not in names:
            raise NoSuch("tool", name, names)
    if wanted:
        return tuple(dict.fromkeys(wanted))
    if len(names) > TOO_MANY:
        raise Misuse(
            f"the servers have {len(names)} tools, and {TOO_MANY} are the most a model is given",
            f"name those that the tasks need: `--tools {','.join(names[:2])}`",
        )
    if len(names) > MANY:
        notify(f"{len(names)} tools are many to choose from; `--tools` names those that are needed")
    return names


def result_text(result: CallToolResult, characters: int) -> str:
    """The text of a result, cut to so many characters with a note of what was left out.

    Content that is no text is named; structured content counts where there is no other.
    """
    parts = [_part(each) for each in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    if result.is_error and not (parts and parts[0].casefold().startswith("error:")):
        parts = [f"error: {parts[0] if parts else 'it failed'}", *parts[1:]]
    # Cut before it is joined: a text of many megabytes is not held once more.
    kept, left = [], characters
    for part in parts:
        kept.append(part[: max(0, left)])
        left -= len(part)
    total = sum(map(len, parts))
    note = f"\n[{-left:,} of {total:,} characters left out]" if left < 0 else ""
    return "\n".join(filter(None, kept)) + note


def _part(content: Any) -> str:
    """A piece of content as text, or what kind of thing it is."""
    resource = getattr(content, "resource", content)
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return text
    data = getattr(content, "data", None) or getattr(resource, "blob", None) or ""
    about = (getattr(content, "mime_type", None), getattr(resource, "uri", None))
    told = [content.type, *(str(each) for each in about if each)]
    return f"[{', '.join([*told, *([f'{len(data):,} characters'] if data else [])])}]"


def _in_openai_form(name: str, tool: Tool) -> Json:
    function = {"name": name, "description": tool.description or ""}
    return {"type": "function", "function": {**function, "parameters": tool.input_schema}}


# --- connections


@contextmanager
def _connected(portal: BlockingPortal, name: str) -> Iterator[_Server]:
    label = one_line(_VALUE.sub(r"\1…", without_credentials(name)), 100)
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        session = portal.wrap_async_context_manager(_session(name, stderr))
        try:
            client = session.__enter__()
        except Misuse:
            raise
        except Exception as error:
            raise _unusable(label, error, stderr) from error
        try:
            yield _Server(label, client, stderr)
        finally:
            # A connection that was lost fails once more when it is closed.
            with suppress(Exception):
                session.__exit__(None, None, None)


@asynccontextmanager
async def _session(name: str, stderr: TextIO) -> AsyncIterator[Client]:
    import anyio
    import httpx2
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    with anyio.fail_after(_START) as scope:
        async with AsyncExitStack() as stack:
            if name.startswith(("http://", "https://")):
                # A proxy of the environment must not stand between us and this machine.
                http = httpx2.AsyncClient(timeout=None, trust_env=not is_loopback(name))
                await stack.enter_async_context(http)
                transport = streamable_http_client(
                    name, http_client=http, max_sse_event_size=_EVENT
                )
            else:
                command, *arguments = _words(name)
                started = StdioServerParameters(command=command, args=arguments)
                transport = stdio_client(started, errlog=stderr)
            client = await stack.enter_async_context(Client(transport))
            scope.deadline = math.inf
            try:
                yield client
            finally:
                scope.deadline = anyio.current_time() + _END


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        hint = 'a command in one text, `--mcp "npx -y SERVER"`, or a URL'
        raise Misuse(f"`{one_line(command, 60)}` is no command", hint)
    return words


async def _listed(client: Client) -> list[Tool]:
    import anyio

    tools: list[Tool] = []
    cursor = None
    with anyio.fail_after(_START):
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None or len(tools) > 20 * TOO_MANY:
                return tools


def _unusable(label: str, error: Exception, stderr: TextIO) -> BenchError:
    what = f"the MCP server `{label}` cannot be used: {_said(error)}{_last_line(stderr)}"
    return BenchError(what, "run its command by itself, or look whether its URL is right")


def _said(error: BaseException) -> str:
    """What an error says, in one line; task groups wrap it in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"no answer within {_START:g} s"
    message = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    return one_line(str(message), 200) or type(error).__name__


def _last_line(stderr: TextIO) -> str:
    """The last line that a server wrote to its stderr, in brackets; "" for none."""
    end = stderr.seek(0, 2)
    stderr.seek(max(0, end - 2_000))
    lines = [line for line in stderr.read().splitlines() if line.strip()]
    return f" (it said: {one_line(lines[-1], 160)})" if lines else ""
