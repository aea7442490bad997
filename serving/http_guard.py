"""Who may ask the server: its key, and the names under which pages of a browser know it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domainlift.errors import Misuse
from serving.request_fields import RequestRefused

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Access:
    """The address that is bound, and the key that clients need, "" for none.

    Raises Misuse where others than this machine could ask without a key.
    """

    host: str = "127.0.0.1"
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key and self.host not in LOOPBACK:
            raise Misuse(
                f"`--host {self.host}` lets other machines ask, and no key is set",
                "set one: `--key` or BENCH_KEY",
            )

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise RequestRefused for a client without the key, or a page of another site.

        A site whose name points to this machine (DNS rebinding) sends its own name as the host.
        """
        names = [headers.get("host", ""), headers.get("origin", "")]
        if self.host in LOOPBACK:
            for name in filter(None, names):
                if _host(name) not in LOOPBACK:
                    raise RequestRefused(f"`{name[:80]}` is not this machine", status=403)
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        open_ = not self.key or path == "/health"
        if not open_ and not hmac.compare_digest(given.encode(), self.key.encode()):
            raise RequestRefused("the API key is wrong", status=401, code="invalid_api_key")


class Guard:
    """Lets through what `access` allows, with single slashes in the path."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            scope = {**scope, "path": re.sub("//+", "/", scope["path"])}
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            try:
                self._access.check(scope["path"], headers)
            except RequestRefused as refused:
                await refused_response(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def refused_response(refused: RequestRefused) -> JSONResponse:
    """The response of an error, in OpenAI's shape."""
    from starlette.responses import JSONResponse

    return JSONResponse(refused.as_json(), refused.status)


def _host(name: str) -> str | None:
    """The host in a header, without its port; None where there is none."""
    try:
        return urlsplit(name if "//" in name else f"//{name}").hostname
    except ValueError:
        return None
