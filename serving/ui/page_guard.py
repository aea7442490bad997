"""Who may see the pages: a token in the first address, a cookie after it, a field in each form.

Cookies tell neither ports nor, within one machine, sites apart. So a form says a second secret, and
the page that sends it must be one of ours.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domainlift.errors import Misuse

#: Nothing is loaded from elsewhere or sent there, and no script runs but the file of ours.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FORM_FIELD = "form_token"
_MOST_BYTES, _MOST_FIELDS = 1_000_000, 200


def form_token(token: str) -> str:
    """What a form says to show that it is one of ours."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


class PageGuard:
    """Lets through who has the token, and forbids pages to load anything from elsewhere."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", POLICY)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(Request(scope))
        await (self._app if answer is None else answer)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """What is answered in place of a page: a redirect, or a refusal; None where it may go on.

        The name of the cookie has the port: two servers of one machine share their cookies.
        """
        name = f"domainlift-{(request.scope.get('server') or ('', 0))[1]}"
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and self._is_token(given):
            rest = [pair for pair in request.query_params.multi_items() if pair[0] != "token"]
            path = request.url.path + (f"?{urlencode(rest)}" if rest else "")
            answer = RedirectResponse(path, 303)
            answer.set_cookie(name, self._token, httponly=True, samesite="strict")
            return answer
        if not self._is_token(request.cookies.get(name, "")):
            told = "Open the address that `bench ui` printed: it has the token of this session."
            return PlainTextResponse(told, 403)
        return None if request.method in ("GET", "HEAD") else _foreign(request)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _foreign(request: Request) -> Response | None:
    """Refuse what another page sends, also one of another port of this machine."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    own = f"http://{request.headers.get('host', '')}"
    if origin not in (None, own) or site not in (None, "same-origin"):
        return PlainTextResponse("This form was sent by another page.", 403)
    return None


async def read_form(request: Request, token: str) -> dict[str, str]:
    """The fields of a form of ours; Misuse where it is none, or is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise Misuse(f"the form has more than {_MOST_BYTES:,} bytes")
    try:
        text = body.decode("utf-8")
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise Misuse(f"the form cannot be read: {error}") from error
    fields = dict(pairs)
    said = fields.pop(FORM_FIELD, "").encode("utf-8", "replace")
    if not hmac.compare_digest(said, form_token(token).encode()):
        raise Misuse("the form is of an earlier session", "go back, load the page anew, and repeat")
    return fields
