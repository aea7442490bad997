"""Address of a server: where requests go, and how it is shown and stored, without credentials."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from domainlift.errors import Misuse
from domainlift.text.display import without_credentials


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
