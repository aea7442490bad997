"""Secrets in a text: keys by the forms of their services, and values by the names they are under.

Nothing is found by looking random alone: hashes, UUIDs and images do, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from traces.secret_values import (
    NAMED_KINDS,
    is_bare_secret,
    is_hidden,
    is_placeholder,
    is_reference,
    is_secret_value,
    kind_of_name,
)


@dataclass(frozen=True)
class FoundSecret:
    """Where a secret stands in a text, and of what kind it is."""

    start: int
    end: int
    kind: str


# A key begins after something that is no part of a word; `\n` in JSON and `%3D` in URLs are none.
_BEGIN = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt])|(?<=%[0-9A-F][0-9A-F]))"
_END = r"(?![A-Za-z0-9])"
_HAS_DIGIT = r"(?=[\w-]{0,99}\d)"
_FORMS = {
    "aws": r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
    "github": r"(?:gh[opusr]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255})",
    "gitlab": r"gl(?:pat|dt|rt|ft|soat|ptt|cbt|imt|agent|oas)-[\w-]{20,255}(?:\.\w{1,99}){0,2}",
    "huggingface": r"(?:hf|api_org)_[A-Za-z0-9]{30,255}",
    "anthropic": r"sk-ant-[\w-]{20,255}",
    "openai": rf"sk-{_HAS_DIGIT}[\w-]{{20,255}}",
    "google": r"(?:AIza[\w-]{35}|ya29\.[\w.-]{20,2000}|GOCSPX-[\w-]{20,99}|1//0[\w-]{30,255})",
    "slack": rf"(?:xox[abeoprs]-{_HAS_DIGIT}[\w-]{{10,255}}|xapp-\d-[\w-]{{10,255}}"
    r"|https://hooks\.slack\.com/(?:services|workflows)/[\w/+-]{20,255})",
    "stripe": r"(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{20,})",
    "npm": r"npm_[A-Za-z0-9]{36}",
    "pypi": r"pypi-AgE[\w-]{30,999}",
    "azure": r"(?:[\w~.-]{3}\dQ~[\w~.-]{31,34}|(?<=[?&]sig=)[\w%+/=-]{30,})",
    "telegram": r"\d{8,10}:AA[\w-]{33}",
    "twilio": r"SK[0-9a-f]{32}",
    "sendgrid": r"SG\.[\w-]{16,32}\.[\w-]{16,64}",
    "jwt": r"(?<!-)eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    # Of many others: their prefixes are their own.
    "service": r"(?:(?:(?:gsk|ntn|lin_api|sbp|figd|r8|dckr_pat|do[op]_v1|sntryu|glsa)_|hvs\."
    rf"|(?:xai|tvly|pplx|nvapi|PMAK)-){_HAS_DIGIT}[\w-]{{24,255}}"
    r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|dapi[0-9a-f]{32}|AGE-SECRET-KEY-1[A-Z0-9]{50,60})",
}
_FORM = re.compile(
    _BEGIN + "(?:" + "|".join(f"(?P<{kind}>{form})" for kind, form in _FORMS.items()) + ")" + _END
)
# Where a result was cut the end is missing; what looks like the key goes with its beginning.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?=[^\"'](?s:.{0,400}?)[\w+/]{24})"
    r"(?:(?:[^-]|-(?!----)){0,20000}-----END (?P=what)-----"
    r"|(?:\s|\\[nr]|[A-Z][A-Za-z-]{3,20}: [^\n\\]{1,99}|[A-Za-z0-9+/=]{16,})*)"
)
_URL = re.compile(r"[a-zA-Z][\w+.-]{0,20}://[^\s/:@?#\"'<>]{0,255}:([^\s/?\"'<>`]{1,512})@")
_CREDENTIALS = r"(?=\S{0,99}(?:\d|[a-z][A-Z]))([\w.~+/=:-]{8,4096})"
_HEADER = re.compile(
    r"(?i:authorization\W{0,4}[:=]\W{0,4}(?:(?:bearer|basic|token|apikey)\s+)?|\bbearer\s+)"
    + _CREDENTIALS
)
_LOGIN = re.compile(
    r"(?:curl|wget|https?)\b[^\n|;]{0,200}?\s(?:-u|--user|-a)[ =][\"']?[\w.@-]+:([^\s\"']+)"
    r"|\b(?:sshpass|docker login|mysql\w*|redis-cli)\b[^\n|;]{0,200}?\s-[pa] ?[\"']?"
    r"([^\s\"'-][^\s\"']{2,})"
    r"|\bmachine\s+\S{1,255}\s+login\s+\S{1,99}\s+password\s+(\S+)"
)
_RANKS = (*_FORMS, "private-key", "url", "bearer", *NAMED_KINDS)

_NAME = re.compile(
    r"(?<![\w.-])(?P<name>-{0,2}[A-Za-z_@][\w.-]{0,80}?)"
    r"(?P<after>(?:\\{0,3}[\"'`])?\]?\s{0,3}"
    r"(?:=>|:=|==|:\s&?[\w\[\]']{1,30}\s?=|[:=]|(?<=\s)\|(?=\s)|,?\s{0,20}[\"']?value[\"']?\s?[:=])"
    r"\*{0,2}\s{0,3}"
    r"|\s(?:is|was):?\s|[ \t]+|>)"
)
_QUOTED = re.compile(
    r"[rbuf]{0,2}(?P<quote>\\{0,3}(?:\"\"\"|'''|[\"'`]))(?P<value>[^\n]{0,4096}?)(?:(?P=quote)|\Z)"
)
_BARE = re.compile(r"[^\s\"'`<>=]{1,4096}={0,2}")
# What follows a bare value: another pair, the next line in JSON, the end of a bracket or sentence.
_AFTER_BARE = re.compile(r"[;,&|](?=[\w.-]+[=:]|$)|\\+[nrt\"'].*|[)\]},;.:!?]+$")


def find_secrets(text: str) -> tuple[FoundSecret, ...]:
    """The secrets of a text, in their order; none overlaps another."""
    found = [*_by_form(text), *_by_context(text), *_by_name(text)]
    joined: list[FoundSecret] = []
    for each in sorted(found, key=lambda secret: secret.start):
        if joined and each.start < joined[-1].end:
            before = joined.pop()
            kind = min(before.kind, each.kind, key=_RANKS.index)
            joined.append(FoundSecret(before.start, max(before.end, each.end), kind))
        else:
            joined.append(each)
    return tuple(joined)


def _by_form(text: str) -> Iterator[FoundSecret]:
    for match in _FORM.finditer(text):
        if match.lastgroup is not None and not is_hidden(match[0]):
            yield FoundSecret(match.start(), match.end(), match.lastgroup)
    for match in _PRIVATE_KEY.finditer(text):
        yield FoundSecret(match.start(), match.end(), "private-key")


def _by_context(text: str) -> Iterator[FoundSecret]:
    for kind, form in (("url", _URL), ("bearer", _HEADER), ("password", _LOGIN)):
        for match in form.finditer(text):
            group = match.lastindex or 0
            hides = is_reference if kind == "url" else is_placeholder
            if not hides(match[group]):
                yield FoundSecret(match.start(group), match.end(group), kind)


def _by_name(text: str) -> Iterator[FoundSecret]:
    for match in _NAME.finditer(text):
        escaped = text[match.start() - 1 : match.start()] == "\\"  # it begins with the n of `\n`
        kind = kind_of_name(match["name"][1:] if escaped else match["name"])
        if not kind or not _has_value(match, kind, text):
            continue
        quoted = _QUOTED.match(text, match.end())
        if quoted is None:
            start, end = _bare(match, kind, text)
        elif is_secret_value(quoted["value"], kind):
            start, end = quoted.span("value")
        else:
            continue
        if start < end:
            yield FoundSecret(start, end, kind)


def _has_value(name: re.Match[str], kind: str, text: str) -> bool:
    """Whether what follows is its value: `name: value`, `--name value`, `<name>value`."""
    after, before = name["after"].strip(), text[name.start() - 1 : name.start()]
    if after == ">":
        return before == "<"
    if name["after"] == ":" and before == ":":  # a part of a longer name, as Amazon's are
        return False
    if after.startswith(("is", "was")):
        return kind == "password"
    return bool(after) or name["name"].startswith("--")


def _bare(name: re.Match[str], kind: str, text: str) -> tuple[int, int]:
    """Where a secret without quotes begins and ends; nowhere if it is none."""
    match = _BARE.match(text, name.end())
    value = _AFTER_BARE.split(match[0], maxsplit=1)[0] if match else ""
    if "\n" in name["after"] and "value" not in name["after"]:
        return 0, 0
    setting = name["after"] == ">" or _is_setting(name, value, text)
    spaced = name["after"].startswith(" ")
    if not value or not is_bare_secret(value, kind, spaced=spaced, setting=setting):
        return 0, 0
    return name.end(), name.end() + len(value)


def _is_setting(name: re.Match[str], value: str, text: str) -> bool:
    """Whether it is `NAME=value`, or a line of its own in lower case, as in YAML: prose goes on."""
    if name["after"] == "=" and name["name"].isupper():
        return True
    before = text[text.rfind("\n", 0, name.start()) + 1 : name.start()]
    after = text[name.end() + len(value) :].partition("\n")[0]
    alone = not before.strip(" -") and not after.strip()
    # A type of a program begins with a capital.
    return alone and name["after"] in (": ", "=") and name["name"].islower() and value.islower()
