"""Processes that begin with the heavy libraries imported: children of a server that forks.

Importing torch, transformers and peft takes Python five seconds. The server imports them once,
starts no thread and runs nothing; what it forks is a process with an environment, a folder, an
output and an end of its own, like one that was started.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn

MODULES = (
    "peft",
    "transformers.models.qwen2.modeling_qwen2",
    "torch.distributed.fsdp",
    "chromadb",
    "bm25s",
    "sklearn.feature_extraction.text",
)


class ForkServer:
    """The client's side; the server begins with the first process that is asked for."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._socket, self._far = socket.socketpair()
        self._lock = threading.Lock()

    def start(
        self,
        *argv: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> ForkedProcess:
        """Run what Python runs with these arguments: a script, `-m` and a module, `-c` and code."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__, str(self._far.fileno())],
                pass_fds=[self._far.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _path()},
            )
            self._far.close()
        ours, theirs = [], []
        for where in (stdout, stderr):
            read, write = os.pipe() if where == subprocess.PIPE else (None, _open_null())
            ours.append(None if read is None else os.fdopen(read, encoding="utf-8"))
            theirs.append(write)
        said = {
            "argv": [str(each) for each in argv],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        pid = self._ask(said, theirs)
        for write in theirs:
            os.close(write)
        return ForkedProcess(self, pid, *ours)

    def poll(self, pid: int) -> int | None:
        """The exit status of a process that has ended; None before."""
        code: int | None = self._ask({"poll": pid})
        return code

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        if self._server is not None:
            self._server.wait(60)

    def _ask(self, said: dict[str, Any], fds: list[int] | None = None) -> Any:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(said).encode() + b"\n"], fds or [])
            return json.loads(_line(self._socket)[0])


class ForkedProcess:
    """A process of the server, with the members of `subprocess.Popen` that tests use."""

    def __init__(
        self, server: ForkServer, pid: int, stdout: IO[str] | None, stderr: IO[str] | None
    ) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.poll(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 180) -> int:
        """Wait for its end."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float = 180) -> tuple[str, str]:
        """What it printed until its end, on stdout and stderr."""
        texts = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            with stream:
                texts[number] = stream.read()

        streams = [(n, each) for n, each in enumerate((self.stdout, self.stderr)) if each]
        threads = [threading.Thread(target=read, args=each) for each in streams]
        for thread in threads:
            thread.start()
        self.wait(timeout)
        for thread in threads:
            thread.join()
        return texts[0], texts[1]

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()


def _open_null() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def _path() -> str:
    return os.pathsep.join(sys.path)


def _line(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A line, and the file descriptors that came with it; nothing once the other side has ended."""
    data, fds = b"", []
    while not data.endswith(b"\n"):
        part, more, _, _ = socket.recv_fds(connection, 1 << 16, 2)
        fds += more
        data += part
        if not part:
            return b"", fds
    return data, fds


def _serve(connection: socket.socket) -> None:
    for name in MODULES:
        with suppress(ImportError):
            import_module(name)
    gc.collect()
    gc.freeze()  # so that no collection in a child copies the pages that it shares
    while True:
        data, fds = _line(connection)
        if not data:
            return
        said = json.loads(data)
        if "poll" in said:
            pid, status = os.waitpid(said["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                _end(_become(said, fds))
            for each in fds:
                os.close(each)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _become(said: dict[str, Any], fds: list[int]) -> int:
    """Be the process that was asked for; its exit status."""
    for number, each in enumerate(fds, 1):
        os.dup2(each, number)
        os.close(each)
    # Those of the server may be files, and believe that they can be sought in.
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    os.chdir(said["cwd"])
    os.environ.clear()
    os.environ.update(said["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    target, *arguments = said["argv"]
    try:
        if target == "-m":
            sys.argv = arguments
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        elif target == "-c":
            sys.argv = [target, *arguments[1:]]
            exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = [target, *arguments]
            runpy.run_path(target, run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """Do what Python does at its end, but for taking each of thousands of modules apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
