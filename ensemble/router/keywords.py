r"""Keyword file of the router: terms with their weight per domain, for people to read and edit.

    calibration: {temperature: 0.9, threshold: 0.5, sure: 0.9}
    domains:
    - name: biology
      bias: -0.4
      threshold: 0.6
      terms: {cell: 1.7, natural selection: 2.1}
      negatives: {cell phone: -6}
      patterns: {'\bRNA\b': 1.5}

A question's score for a domain is the bias plus the sum of the weights of what it holds, each
counted once, divided by the root of its number of distinct words. Temperature and softmax make
probabilities of the scores.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed, NoSuch
from domainlift.files import disk_errors, write_bytes, write_text
from domainlift.yaml_schema import Field, Node, read_yaml
from ensemble.router.classifier import classifier_from_bytes
from ensemble.router.documents import sentences_from_bytes
from ensemble.router.safe_regex import compile_safely
from ensemble.router.tokenize import ANY, term_of
from knowledge_bases.domains import Domain

SHIPPED = Path(__file__).parents[1] / "routes.yaml"
#: The weight of a keyword that somebody wrote and nobody fitted.
BY_HAND = 6.0


@dataclass(frozen=True)
class RouterCalibration:
    """Temperature of the scores, and thresholds of the probability.

    Below `threshold` a question goes to the base model; from `sure` on the keywords decide alone.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    sure: float = 0.9


@dataclass(frozen=True)
class DomainTerms:
    """Weights of terms and patterns: positive for the domain, negative against it.

    `threshold` is the domain's own, None for that of the calibration.
    """

    bias: float = 0.0
    terms: Mapping[str, float] = field(default_factory=dict)
    patterns: Mapping[str, float] = field(default_factory=dict)
    threshold: float | None = None


@dataclass(frozen=True)
class Keywords:
    """The keywords of all domains.

    `fitted` describes the fit (sources, numbers, date, digests), empty where there was none.
    `classifier` is the file of the classifier that was fitted along with them, `sentences` that of
    the sentences of a user's own documents.
    """

    domains: Mapping[str, DomainTerms]
    calibration: RouterCalibration = RouterCalibration()
    fitted: Mapping[str, Any] = field(default_factory=dict)
    classifier: bytes = b""
    sentences: bytes = b""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the keyword file's text, which names the files beside it."""
        return hashlib.sha256(as_text(self).encode()).hexdigest()[:16]


def hand_written(domains: Mapping[str, Domain]) -> Keywords:
    """The keywords that the domains declare, all of one weight; nothing is fitted."""
    return Keywords({name: by_hand(domain) for name, domain in domains.items()})


def by_hand(domain: Domain) -> DomainTerms:
    """The declared keywords of one domain; what cannot be looked up is left out, as is `0`."""
    terms: dict[str, float] = {}
    for keyword in domain.keywords:
        with suppress(ValueError):
            terms[term_of(keyword)] = BY_HAND
    return DomainTerms(terms={t: w for t, w in terms.items() if ANY not in t.split(" ")})


def read_keywords(path: Path, known: Mapping[str, Domain] | None = None) -> Keywords:
    """Read a keyword file and the files beside it; Malformed names file, line and key.

    `known` are the domains that there are; without them any name will do.
    """
    entries = read_yaml(path, _SCHEMA)
    domains: dict[str, DomainTerms] = {}
    for table in entries["domains"].tables:
        name = table["name"]
        if known is not None and name.text not in known:
            error = NoSuch("domain", name.text, known, see="bench domains")
            raise Malformed(path, error.what, line=name.line, hint=error.hint)
        if name.text in domains:
            raise Malformed(path, f"domain `{name.text}` stands twice", line=name.line)
        domains[name.text] = _domain(path, table)
    if not domains:
        what, hint = "`domains` names none", "fit it: `bench route fit`"
        raise Malformed(path, what, line=entries["domains"].line, hint=hint)
    return Keywords(
        domains,
        _calibration(path, entries.get("calibration", Node())),
        {key: entry.value for key, entry in entries.get("fitted", Node()).values.items()},
        _file_beside(path, "classifier", entries, classifier_from_bytes),
        _file_beside(path, "sentences", entries, sentences_from_bytes),
    )


def write_keywords(path: Path, keywords: Keywords) -> None:
    """Write a keyword file and the files beside it; a reader sees the old or the new."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for file, content in files_beside(path, keywords).items():
        write_bytes(file, content)
    write_text(path, as_text(keywords))


def files_beside(path: Path, keywords: Keywords) -> dict[Path, bytes]:
    """The files that a keyword file names, which lie beside it, with their contents."""
    held = filter(None, (keywords.classifier, keywords.sentences))
    return {_beside(path, _sha256(content)): content for content in held}


def as_text(keywords: Keywords) -> str:
    """The keyword file's text."""
    return "\n".join([*_head(keywords), "domains:", *_tables(keywords), ""])


def backup(path: Path) -> Path | None:
    """Give an existing keyword file another name, `routes.1.yaml` say; None where there is none."""
    if not path.is_file():
        return None
    numbers = count(1)
    free = next(p for n in numbers if not (p := path.with_suffix(f".{n}.yaml")).exists())
    with disk_errors(path):
        path.rename(free)
    return free


# --- reading

_SCHEMA: Mapping[str, Field] = {
    "domains": Field(
        "tables",
        required=True,
        keys={
            "name": Field("text", required=True),
            "bias": Field("number"),
            "threshold": Field("number"),
            "terms": Field("values"),
            "negatives": Field("values"),
            "patterns": Field("values"),
        },
    ),
    "calibration": Field("values"),
    "fitted": Field("values"),
    "classifier": Field("text"),
    "sentences": Field("text"),
}
# Key of the calibration -> the lowest and the highest value that makes sense.
_RANGES = {"temperature": (0.01, 100.0), "threshold": (0.0, 1.0), "sure": (0.0, 1.0)}


def _calibration(path: Path, entry: Node) -> RouterCalibration:
    values: dict[str, float] = {}
    for key, each in entry.values.items():
        if key not in _RANGES:
            error = NoSuch("key", key, _RANGES)
            raise Malformed(path, error.what, line=each.line, hint=error.hint)
        low, high = _RANGES[key]
        values[key] = _number(path, key, each)
        if not low <= values[key] <= high:
            what = f"`{key}` is {values[key]:g}, not between {low:g} and {high:g}"
            raise Malformed(path, what, line=each.line)
    return RouterCalibration(**values)


def _domain(path: Path, table: Mapping[str, Node]) -> DomainTerms:
    absent = Node()
    terms: dict[str, float] = {}
    lines: dict[str, int | None] = {}
    for key in ("terms", "negatives"):
        for phrase, entry in table.get(key, absent).values.items():
            term = _term(path, phrase, entry)
            if term in terms:
                what = f"term `{phrase}` stands twice, first in line {lines[term]}"
                hint = "words are compared without case and plural"
                raise Malformed(path, what, line=entry.line, hint=hint)
            terms[term], lines[term] = _weight(path, key, phrase, entry), entry.line
    patterns = {
        pattern: _pattern(path, pattern, entry)
        for pattern, entry in table.get("patterns", absent).values.items()
    }
    threshold = table["threshold"].number if "threshold" in table else None
    return DomainTerms(float(table.get("bias", absent).number), terms, patterns, threshold)


def _term(path: Path, phrase: str, entry: Node) -> str:
    try:
        return term_of(phrase)
    except ValueError as error:
        raise Malformed(path, str(error), line=entry.line) from None


def _pattern(path: Path, pattern: str, entry: Node) -> float:
    try:
        compile_safely(pattern)
    except ValueError as error:
        raise Malformed(path, f"pattern `{pattern}` {error}", line=entry.line) from None
    return _number(path, pattern, entry)


def _weight(path: Path, key: str, phrase: str, entry: Node) -> float:
    weight = _number(path, phrase, entry)
    if key == "negatives" and weight >= 0:
        what = f"`{phrase}` under `negatives` has the weight {weight:g}, not one below 0"
        raise Malformed(path, what, line=entry.line, hint=f"write `{phrase}: {-weight:g}`")
    return weight


def _number(path: Path, key: str, entry: Node) -> float:
    value = entry.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Malformed(path, f"`{key}` must be a finite number", line=entry.line)
    return float(value)


def _file_beside(
    path: Path, key: str, entries: Mapping[str, Node], parse: Callable[[bytes], object]
) -> bytes:
    """The file that the keyword file names under a key; b"" where it names none."""
    entry = entries.get(key, Node())
    if not entry.text:
        return b""
    file = _beside(path, entry.text)
    try:
        content = file.read_bytes()
    except OSError:
        content = b""
    fault = "" if _sha256(content) == entry.text else "is not there, or another file"
    try:
        parse(content)
    except ValueError:
        fault = fault or "is none"
    if fault:
        hint = f"fit it anew: `bench route fit`, or take the line `{key}` out"
        what = f"`{key}` names `{file.name}`, which {fault}"
        raise Malformed(path, what, line=entry.line, hint=hint)
    return content


def _beside(path: Path, digest: str) -> Path:
    """A file named by its content, so that no other keyword file's is overwritten."""
    return path.with_name(f"routes-{digest[:12]}.npz")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- writing

_PLAIN = re.compile(r"[a-z][a-z ]+")
# What YAML takes for something else than a text.
_TAKEN = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})
_SHOWN = ("temperature", "threshold", "sure")


def _head(keywords: Keywords) -> Iterator[str]:
    yield "# What speaks for each domain. Edit it; `bench route explain` shows what a change does."
    yield "# docs/routing.md explains the format; `bench route fit` writes such a file anew."
    fitted = {k: v for k, v in keywords.fitted.items() if v not in (None, "", [], (), {})}
    if fitted:
        yield "fitted:"
        yield from (f"  {key}: {json.dumps(fitted[key], ensure_ascii=False)}" for key in fitted)
    numbers = (f"{key}: {getattr(keywords.calibration, key):g}" for key in _SHOWN)
    yield f"calibration: {{{', '.join(numbers)}}}"
    if keywords.classifier:
        yield f"classifier: {_sha256(keywords.classifier)}"
    if keywords.sentences:
        yield f"sentences: {_sha256(keywords.sentences)}"


def _tables(keywords: Keywords) -> Iterator[str]:
    for name, domain in keywords.domains.items():
        yield f"- name: {name}"
        yield f"  bias: {domain.bias:g}"
        if domain.threshold is not None:
            yield f"  threshold: {domain.threshold:g}"
        ordered = sorted(domain.terms.items(), key=lambda item: (-abs(item[1]), item[0]))
        for key, sign in (("terms", 1), ("negatives", -1)):
            chosen = [(term, weight) for term, weight in ordered if weight * sign > 0]
            yield from _values(key, chosen)
        yield from _values("patterns", list(domain.patterns.items()))


def _values(key: str, items: list[tuple[str, float]]) -> Iterator[str]:
    if items:
        yield f"  {key}:"
        yield from (f"    {_quoted(term)}: {weight:g}" for term, weight in items)


def _quoted(term: str) -> str:
    if _PLAIN.fullmatch(term) and term not in _TAKEN:
        return term
    # Without `*` the file holds no alias for sure, and is read by YAML's quick reader.
    return json.dumps(term, ensure_ascii=False).replace("*", "\\u002a")
