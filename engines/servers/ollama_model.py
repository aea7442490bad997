"""Find an Ollama server and what it says of a model, before anything is asked."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from domainlift.errors import BenchError, EngineDown, Misuse
from domainlift.files import text_sha256
from domainlift.text.display import without_credentials
from engines.servers.http import Server
from engines.servers.ollama_hub_names import hub_name
from engines.servers.responses import Failure, Json, get_path

DEFAULT_HOST = "http://127.0.0.1:11434"
_NO_USER = "OLLAMA_HOST may name who asks: `http://USER:PASSWORD@HOST:PORT`"
_PORTS = {"": 11434, "http": 80, "https": 443}
# A server that listens everywhere is reached on this machine.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True)
class OllamaModel:
    """A model as a server has it; `context` is what it was trained for, None where not said.

    `dated` says that its template writes the date of the day.
    """

    model: str
    version: str
    digest: str
    quantization: str
    template: str
    has_chat_template: bool
    dated: bool
    thinks: bool
    context: int | None


def look_up(server: Server, model: str) -> OllamaModel:
    """Ask a server for its version and for one model; fail with the way on where it is not so."""
    version = _version(server, model)
    shown = _show(server, model)
    template = str(get_path(shown, "template") or "")
    return OllamaModel(
        model=model,
        version=version,
        digest=_digest(server, model, shown),
        quantization=str(get_path(shown, "details", "quantization_level") or ""),
        template=text_sha256(template)[:16],
        has_chat_template=re.sub(r"\s", "", template) not in ("", "{{.Prompt}}"),
        dated="currentDate" in template,
        thinks="thinking" in (get_path(shown, "capabilities") or ()),
        context=_trained_context(shown),
    )


def parse_host(text: str) -> str:
    """Make a URL of what OLLAMA_HOST may hold: nothing, a host, `host:port`, or a URL."""
    text = text.strip().strip("\"'")
    if not text:
        return DEFAULT_HOST
    scheme, _, rest = text.rpartition("://")
    try:
        parts = urlsplit(f"//{_bracketed(rest)}")
        port, host = parts.port, parts.hostname
        port = _PORTS[scheme] if port is None else port
    except (KeyError, ValueError) as error:
        shown = without_credentials(text if scheme else f"http://{rest}")
        raise Misuse(f"`{shown}` is no host", "write it as `host:port` or a URL") from error
    host = "" if host is None else host
    place = _bracketed(_EVERYWHERE.get(host, host))
    who = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme or 'http'}://{who}{place}:{port}{parts.path.rstrip('/')}{query}"


def is_older(version: str, than: tuple[int, int, int]) -> bool:
    """Compare a version; one that cannot be read, or 0.0.0 (built from source), is not older."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    numbers = tuple(map(int, found.groups())) if found is not None else (0, 0, 0)
    return numbers != (0, 0, 0) and numbers < than


def ways_on(model: str) -> str:
    """Say what to do where no server answers: start one, or do without."""
    name = hub_name(model)
    inside = (
        f"`bench run --model {name}`"
        if name is not None
        else "`bench run --model ORG/NAME`, its name on the hub"
    )
    return (
        f"start it with `ollama serve` and `ollama pull {shlex.quote(model)}`, "
        f"or score the same model in-process: {inside}"
    )


def _version(server: Server, model: str) -> str:
    try:
        return str(server.get("/api/version", tries=1).get("version", ""))
    except Failure as failure:
        if failure.status is None or failure.status >= 500:
            raise EngineDown(
                f"Ollama does not answer at `{server.url}`", ways_on(model)
            ) from failure
        if failure.status in (401, 403):
            raise EngineDown(f"`{server.url}` refuses us: {failure.what}", _NO_USER) from failure
        raise BenchError(
            f"`{server.url}` is not an Ollama server: {failure.what}", "check OLLAMA_HOST"
        ) from failure


def _show(server: Server, model: str) -> Json:
    try:
        return server.post("/api/show", {"model": model})
    except Failure as failure:
        if failure.status == 404:
            what = f"Ollama at `{server.url}` has no model `{_full(model)}`"
            raise BenchError(
                what, f"`ollama pull {shlex.quote(model)}`{_others(server, model)}"
            ) from failure
        if failure.status in (401, 403):
            raise EngineDown(f"`{server.url}` refuses us: {failure.what}", _NO_USER) from failure
        raise BenchError(
            f"Ollama at `{server.url}` cannot show `{model}`: {failure.what}",
            f"`ollama show {shlex.quote(model)}` tells more",
        ) from failure


def _digest(server: Server, model: str, shown: Json) -> str:
    """Find the model's digest; where the list does not have it, hash what was shown."""
    for entry in _listed(server):
        digest = get_path(entry, "digest")
        if _full(model) in (get_path(entry, "name"), get_path(entry, "model")) and digest:
            return str(digest)
    parts = [get_path(shown, key) for key in ("modelfile", "details", "model_info")]
    return text_sha256(json.dumps(parts, sort_keys=True))[:16]


def _full(model: str) -> str:
    """A name with its tag: without one, Ollama means the latest."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _others(server: Server, model: str) -> str:
    """The tags of the same model that a server has, as another way on."""
    family = _full(model).rpartition(":")[0]
    with suppress(Failure):
        names = [str(get_path(entry, "name")) for entry in _listed(server)]
        others = [name for name in names if name != _full(model)]
        there = [f"`{name}`" for name in others if name.rpartition(":")[0] == family]
        if there:
            return f", or one that it has: {', '.join(sorted(there)[:5])}"
    return ""


def _listed(server: Server) -> list[Json]:
    found = get_path(server.get("/api/tags"), "models")
    return found if isinstance(found, list) else []


def _trained_context(shown: Json) -> int | None:
    info = get_path(shown, "model_info")
    for key, value in info.items() if isinstance(info, dict) else ():
        if key.endswith(".context_length") and isinstance(value, int):
            return value
    return None


def _bracketed(host: str) -> str:
    """Put a bare IPv6 address in brackets; one who asks has a colon, too."""
    bare = host.count(":") > 1 and "@" not in host and not host.startswith("[")
    return f"[{host}]" if bare else host
