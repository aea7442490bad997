"""Masking of the secrets of a trace before it is shown or written out."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from domainlift.fields import parse_json
from traces.secret_finder import FoundSecret, find_secrets
from traces.secret_values import environment_secrets, is_secret_value, is_telling, kind_of_name
from traces.trace import Trace

#: From this length on, a secret is found within longer words, too.
_LONG = 16
_PARSED = "arguments"

# What is done with a text that stands under a name.
_Visit = Callable[[str, str], str]


def masked(trace: Trace) -> tuple[Trace, Counter[str]]:
    """The trace with `[masked: KIND]` in place of secrets, and the number of secrets by kind.

    What is found in one place is masked wherever it stands, also escaped or in a URL; values of
    this process' own environment are known from the start.
    """
    secrets = _Secrets(os.environ)
    _visited(trace, secrets.learn)
    made = _visited(trace, secrets.mask)
    return made, Counter(secrets.masked.values())


def masked_head(trace: Trace) -> Trace:
    """What is known of a trace besides its messages and tools, without secrets."""
    return masked(replace(trace, messages=(), tools=()))[0]


class _Secrets:
    """The secrets of a trace: those that are known, and those that were masked, by kind."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.masked: dict[str, str] = {}
        self._known = environment_secrets(environment.items())
        self._pattern: re.Pattern[str] | None = None
        self._secret_of: dict[str, str] = {}
        self._looked: dict[str, tuple[FoundSecret, ...]] = {}

    def learn(self, text: str, name: str) -> str:
        """Remember the secrets of a text; the text itself."""
        for found in self._found(text, name):
            if is_telling(secret := text[found.start : found.end]):
                self._known.setdefault(secret, found.kind)
        self._pattern = None
        return text

    def mask(self, text: str, name: str) -> str:
        """The text with its secrets masked: all that are known, then those of its own."""
        text = self._of_known().sub(lambda match: self._mark(self._secret_of[match[0]]), text)
        made, end = [], 0
        for found in self._found(text, name):
            made += [text[end : found.start], self._mark(text[found.start : found.end], found.kind)]
            end = found.end
        return "".join((*made, text[end:]))

    def _found(self, text: str, name: str) -> tuple[FoundSecret, ...]:
        """The secrets of a text; it is one itself where its name says so."""
        if text not in self._looked:
            self._looked[text] = find_secrets(text)
        found, kind = self._looked[text], kind_of_name(name)
        is_whole = [each.end - each.start for each in found] == [len(text)]
        if kind and not is_whole and is_secret_value(text, kind):
            return (FoundSecret(0, len(text), kind),)
        return found

    def _mark(self, secret: str, kind: str = "") -> str:
        known = self._known.get(secret, kind)
        self.masked[secret] = known
        return f"[masked: {known}]"

    def _of_known(self) -> re.Pattern[str]:
        if self._pattern is None:
            self._secret_of = {
                form: secret for secret in self._known for form in _forms_of(secret) if form
            }
            forms = sorted(self._secret_of, key=len, reverse=True)
            # An empty alternative would match anywhere; this one matches nowhere.
            self._pattern = re.compile("|".join(map(_bounded, forms)) or r"(?!)")
        return self._pattern


def _forms_of(secret: str) -> set[str]:
    """A secret as it is, in a JSON text, and in a URL."""
    return {secret, json.dumps(secret)[1:-1], quote(secret, safe="")}


def _bounded(secret: str) -> str:
    if len(secret) >= _LONG:
        return re.escape(secret)
    return rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])"


def _visited(trace: Trace, visit: _Visit) -> Trace:
    return replace(
        trace,
        model=visit(trace.model, ""),
        task=visit(trace.task, ""),
        why=visit(trace.why, ""),
        messages=tuple(_walk(message, visit) for message in trace.messages),
        tools=tuple(_walk(tool, visit) for tool in trace.tools),
    )


def _walk(value: Any, visit: _Visit, name: str = "") -> Any:
    """A value with all its texts visited; a number under the name of a password is a text, too."""
    if isinstance(value, dict):
        return {visit(key, ""): _walk(each, visit, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(each, visit, name) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and kind_of_name(name) == "password":
        said = visit(str(value), name)
        return value if said == str(value) else said
    if not isinstance(value, str):
        return value
    return _arguments(value, visit) if name == _PARSED else visit(value, name)


def _arguments(text: str, visit: _Visit) -> str:
    """The JSON text of arguments, value by value, so that it stays JSON; else any text."""
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return visit(text, "")
    made = _walk(value, visit)
    return text if made == value else json.dumps(made, ensure_ascii=False)
