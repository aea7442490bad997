"""A headless Chromium, driven over its DevTools protocol; nothing but `websockets` is needed."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_SECONDS = 30


def find() -> str | None:
    """The program of a browser, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab; everything that it asks for or complains of is kept."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            said = self._read()
            if said.get("id") == number:
                assert "error" not in said, said["error"]
                return dict(said["result"])

    def open(
        self, path: Path | str, *, width: int = 1200, height: int = 1000, **media: str
    ) -> None:
        """Show a file or an address; `media` are features like `prefers_color_scheme`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        wanted = [{"name": key.replace("_", "-"), "value": media[key]} for key in media]
        self.call("Emulation.setEmulatedMedia", features=wanted)
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri() if isinstance(path, Path) else path)
        self._wait("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        made = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def scripts(self, on: bool) -> None:
        """Turn the page's scripts on or off; `run` works all the same."""
        self.call("Emulation.setScriptExecutionDisabled", value=not on)

    def press(self, key: str, code: int) -> None:
        """Press a key where the focus is."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path, height: int | None = None) -> None:
        """Take a screenshot, of the whole page or of so much of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        tall = size["height"] if height is None else min(height, size["height"])
        clip = {"x": 0, "y": 0, "width": size["width"], "height": tall, "scale": 1}
        made = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(made["data"]))

    def print(self) -> bytes:
        """The page as it would be printed."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """What stands in the console, and every error of a script."""
        kinds = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [event for event in self._events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, itself included."""
        asked = [e for e in self._events if e["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def _wait(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._read()

    def _read(self) -> dict[str, Any]:
        said = dict(json.loads(self._socket.recv(timeout=_SECONDS)))
        if "method" in said:
            self._events.append(said)
        return said


@contextmanager
def started(program: str, folder: Path) -> Iterator[Page]:
    """A browser with a profile of its own, without network of its own doing."""
    from websockets.sync.client import connect

    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update")
    command = [program, *flags, *quiet, "--hide-scrollbars", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with connect(_address(folder, process), max_size=None) as socket:
            yield Page(socket)
            with suppress(Exception):
                socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
    finally:
        _end(process)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Where it listens: it writes port and path into its profile."""
    file, until = folder / "DevToolsActivePort", time.monotonic() + _SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, ValueError):
            port, path = file.read_text(encoding="utf-8").splitlines()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.05)
    raise RuntimeError("the browser does not start")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
