"""Ask a model's server: one request, many at once, again after a failure, and when to give up."""

from __future__ import annotations

import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from domainlift.errors import BenchError, EngineDown, Misuse
from domainlift.text.display import one_line, without_credentials
from engines.base import Answer, EngineInfo, Request, Status, estimate_tokens
from engines.servers.responses import ContextOverflow, Failure, Json, error_message, parse

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

_Asked = TypeVar("_Asked")
_Answered = TypeVar("_Answered")


@dataclass(frozen=True)
class Address:
    """Scheme, host and path of a server, the query of every request, and who asks."""

    base: str
    query: str = ""
    user: str = ""
    password: str = ""

    @property
    def shown(self) -> str:
        """The address without user, password and the values of keys in its query."""
        return without_credentials(self.base + (f"?{self.query}" if self.query else ""))

    @property
    def root(self) -> str:
        """The address without the path of its API."""
        return self.base.removesuffix("/v1")

    def at(self, path: str) -> str:
        """The URL of a path; a whole URL stays what it is."""
        url = path if "://" in path else self.base + path
        return f"{url}?{self.query}" if self.query else url


def parse_address(url: str) -> Address:
    """Read a server's URL; Misuse where it is none."""
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        hint = "write it as `http://host:port/v1#name`"
        raise Misuse(f"`{without_credentials(url)}` is no URL of a server", hint)
    base = f"{parts.scheme}://{_place(parts)}{parts.path.rstrip('/')}"
    user, password = (unquote(each) if each else "" for each in (parts.username, parts.password))
    return Address(base, parts.query, user, password)


def _place(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    place = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return place if parts.port in (None, usual) else f"{place}:{parts.port}"


CONNECT_LIMIT = 10.0
GET_LIMIT = 15.0
#: So many prompts may be refused from the first on before the run stops.
MOST_REFUSED = 50


@dataclass(frozen=True)
class Retries:
    """How often a request is tried, and how many seconds pass before the next try."""

    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 20.0


PATIENT = Retries()


class Server:
    """A model's server, asked over HTTP with a time limit and retries."""

    def __init__(
        self,
        url: str,
        timeout: float,
        retries: Retries = PATIENT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        import httpx

        self._address = parse_address(url)
        self._timeout = timeout
        self._retries = retries
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # A proxy of the environment must not stand between us and this machine.
        who = self._address.user, self._address.password
        self._client = httpx.Client(
            headers=headers, trust_env=not is_loopback(url), auth=who if any(who) else None
        )

    @property
    def address(self) -> Address:
        """Where requests go."""
        return self._address

    @property
    def url(self) -> str:
        """The address as it may be shown and stored."""
        return self._address.shown

    def get(self, path: str, tries: int | None = None) -> Json:
        """Fetch what the server says of itself; this has a short time limit."""
        call = partial(self._once, "GET", path, None, parse, min(self._timeout, GET_LIMIT))
        return self._retrying(call, tries)

    def post(self, path: str, body: Json, read: Callable[[str], Json] | None = None) -> Json:
        """Send `body`; `read` makes one object of the reply's text and may fail with Failure."""
        read = parse if read is None else read
        return self._retrying(partial(self._once, "POST", path, body, read, self._timeout))

    def interrupt(self) -> None:
        """Make requests that are under way in other threads fail now; `reset` ends it."""
        self._stop.set()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            _shut_down(each)

    def reset(self) -> None:
        """Allow requests again after `interrupt`."""
        self._stop.clear()

    def close(self) -> None:
        """Close all connections, also those on which a thread still waits."""
        self.interrupt()
        self._client.close()

    def _retrying(self, call: Callable[[], Json], tries: int | None = None) -> Json:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_when_event_set
        from tenacity.nap import sleep_using_event

        tries = self._retries.tries if tries is None else tries
        retrying = Retrying(
            stop=stop_after_attempt(tries) | stop_when_event_set(self._stop),
            wait=self._pause,
            retry=retry_if_exception(lambda error: isinstance(error, Failure) and error.retry),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        return retrying(call)

    def _pause(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential, wait_random

        first, longest = self._retries.first_wait, self._retries.longest_wait
        growing = (wait_exponential(first, max=longest) + wait_random(0, first))(state)
        error = state.outcome.exception() if state.outcome is not None else None
        wished = error.after if isinstance(error, Failure) else 0.0
        return min(longest, max(growing, wished))

    def lines(self, path: str, body: Json) -> Generator[str, None, None]:
        """Send `body` and yield the lines of the reply as they come; it is tried only once.

        Closing the generator closes the connection.
        """
        self.reset()
        with self._response("POST", path, body, self._timeout) as response:
            yield from _lines(response.iter_bytes())

    def _once(
        self, method: str, path: str, body: Json | None, read: Callable[[str], Json], limit: float
    ) -> Json:
        with self._response(method, path, body, limit) as response:
            text = _read(response, limit)
        if response.history:
            self._follow(path, str(response.url))
        return read(text)

    @contextmanager
    def _response(
        self, method: str, path: str, body: Json | None, limit: float
    ) -> Iterator[httpx.Response]:
        """A successful response, still to be read; Failure where there is none."""
        import httpx

        if self._stop.is_set():
            raise Failure("the request was interrupted")
        try:
            with self._client.stream(
                method,
                self._address.at(path),
                json=body,
                # A redirected POST would arrive as a GET; where the server moved is asked first.
                follow_redirects=method == "GET",
                timeout=httpx.Timeout(limit, connect=min(limit, CONNECT_LIMIT)),
                extensions={"trace": self._trace},
            ) as response:
                if not response.is_success:
                    raise _refusal(response, _read(response, limit))
                yield response
        except httpx.HTTPError as error:
            raise _transport_failure(error, self.url, limit) from error
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            what = f"the request cannot be sent: {one_line(str(error), 120)}"
            raise Failure(what, refused=True) from error

    def _follow(self, path: str, url: str) -> None:
        """Ask where a redirect led, from now on; a key is not sent to another host."""
        found = parse_address(url)
        if not found.base.endswith(path):
            return
        moved = replace(self._address, base=found.base.removesuffix(path))
        if urlsplit(moved.base).hostname != urlsplit(self._address.base).hostname:
            raise Failure(f"the server sends us to another host, `{moved.shown}`; give its URL")
        self._address = moved

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            found = info["return_value"].get_extra_info("socket")
            if found is None:
                return
            with self._lock:
                self._sockets.add(found)
            # Connected after `interrupt` looked, which has not seen this socket.
            if self._stop.is_set():
                _shut_down(found)


class ServedEngine(ABC):
    """Engine over a server: its connections, and what no server tells."""

    _server: Server
    _info: EngineInfo
    _notes: list[str]
    #: Requests that are under way at once.
    _workers: int

    @abstractmethod
    def _ask(self, request: Request) -> Answer:
        """Ask one request; what fails raises BenchError."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is; `notes` may grow while it answers."""
        return replace(self._info, notes=tuple(self._notes))

    @property
    def forward_tokens(self) -> int:
        """0: servers count cached tokens in or out, so this cannot be known."""
        return 0

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        """Yield one answer per request as they finish; they are sent in the given order."""
        self._server.reset()
        ask = partial(answer_or_error, ask=self._ask)
        answers = stream(requests, ask, self._workers, self._server.interrupt)
        return circuit_breaker(answers, self._server.url)

    def count(self, text: str) -> int:
        """Estimate: the server keeps its tokenizer to itself."""
        return estimate_tokens(text)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()


def stream(
    requests: Iterable[_Asked],
    ask: Callable[[_Asked], _Answered],
    workers: int,
    interrupt: Callable[[], None] | None = None,
    *,
    ahead: bool = True,
) -> Generator[_Answered, None, None]:
    """Yield answers as they finish; requests start in the given order, `workers` at a time.

    When the caller stops early, or `ask` raises, nothing further is asked; `interrupt` then makes
    what is under way fail, so that no thread is waited for until its time limit. Unless `ahead`, a
    request starts only once the caller has seen the answer in whose place it comes.
    """
    todo = iter(requests)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ask")
    running: set[Future[_Answered]] = {pool.submit(ask, each) for each in islice(todo, workers)}
    try:
        while running:
            # With a time limit, because without one Windows does not see Ctrl-C in here.
            done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            if ahead:
                running |= {pool.submit(ask, each) for each in islice(todo, len(done))}
            for future in done:
                yield future.result()
            if not ahead:
                running |= {pool.submit(ask, each) for each in islice(todo, len(done))}
    finally:
        if running and interrupt is not None:
            interrupt()
        pool.shutdown(cancel_futures=True)


def circuit_breaker(
    answers: Generator[Answer, None, None], url: str, limit: int = 5
) -> Generator[Answer, None, None]:
    """Pass answers on, and raise EngineDown after `limit` errors in a row: a circuit breaker.

    Errors are held back until an answer follows them: what failed only because the server went
    away is not stored as an answer, so the resumed run asks it again. A refused prompt is an
    answer; only where nothing but refusals comes, it is what we ask that is wrong.
    """
    held: list[Answer] = []
    refused = 0
    with closing(answers):
        for answer in answers:
            refused = refused + 1 if answer.refused and refused >= 0 else -1
            if refused >= MOST_REFUSED:
                raise EngineDown(
                    f"`{url}` refused each of the first {refused} prompts: {answer.error}",
                    "ask otherwise: `--scoring`, `--chat`, `--shots`; then `--fresh`",
                )
            if answer.status is Status.ERROR and not answer.refused:
                held.append(answer)
                if len(held) >= limit:
                    raise EngineDown(
                        f"`{url}` failed {limit} times in a row: {answer.error}",
                        "look after the server, then give the same command again: it resumes the "
                        "run where it stopped",
                    )
                continue
            yield from held
            held.clear()
            yield answer
    yield from held


def answer_or_error(request: Request, ask: Callable[[Request], Answer]) -> Answer:
    """Ask, and turn a failure of this one request into an answer; EngineDown passes."""
    start = time.perf_counter()
    try:
        answer = ask(request)
    except EngineDown:
        raise
    except BenchError as error:
        status = Status.TRUNCATED if isinstance(error, ContextOverflow) else Status.ERROR
        refused = status is Status.ERROR and isinstance(error, Failure) and error.refused
        answer = Answer(request.id, status, error=error.what, refused=refused)
    # A server that says how long it worked knows better: it can leave out loading the model.
    return answer if answer.seconds else replace(answer, seconds=time.perf_counter() - start)


def is_loopback(url: str) -> bool:
    """Say whether a URL points at this machine."""
    host = urlsplit(url).hostname
    return host is not None and (host in ("localhost", "::1") or host.startswith("127."))


def _shut_down(connection: socket.socket) -> None:
    # Closing would not wake a thread that waits for data; shutting down does.
    with suppress(OSError, ValueError):
        connection.shutdown(socket.SHUT_RDWR)


def _refusal(response: httpx.Response, text: str) -> Failure:
    status = response.status_code
    if response.has_redirect_location:
        where = without_credentials(response.headers["location"])
        return Failure(f"the server answered {status}: it has moved to `{where}`", status)
    after = response.headers.get("retry-after", "")
    return error_message(status, text, int(after) if after.isdecimal() else 0)


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Lines that end with a line feed, which is what servers mean; text may have other ends."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.decode("utf-8", "replace").strip() for line in whole)
    yield rest.decode("utf-8", "replace").strip()


def _read(response: httpx.Response, limit: float) -> str:
    """Collect a body; `limit` holds for all of it, so a server that drips cannot hold us up."""
    deadline = time.monotonic() + limit
    collected = bytearray()
    for part in response.iter_bytes():
        collected += part
        if time.monotonic() > deadline:
            raise Failure(f"no complete reply within {limit:g} s")
    return collected.decode("utf-8", errors="replace")


def _transport_failure(error: httpx.HTTPError, url: str, limit: float) -> Failure:
    import httpx

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Failure(f"no connection to `{url}`", retry=True)
    if isinstance(error, httpx.TimeoutException):
        # Not tried again: the same request would take as long once more.
        return Failure(f"no reply within {limit:g} s")
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return Failure("the server dropped the connection", retry=True)
    return Failure(f"the request failed: {one_line(str(error), 120)}")
