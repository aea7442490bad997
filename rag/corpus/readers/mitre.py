"""Reader of MITRE's records: ATT&CK and CAPEC as STIX objects, CWE as a table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rag.corpus.readers.base import Section
from rag.corpus.readers.markdown import markdown_to_text
from rag.corpus.readers.text import clean_line, clean_text

Row = Mapping[str, Any]

#: What a user calls a type of STIX objects; others (relationships, identities) hold no text.
TYPES = {
    "attack-pattern": "technique",
    "malware": "malware",
    "tool": "tool",
    "intrusion-set": "group",
    "campaign": "campaign",
    "course-of-action": "mitigation",
    "x-mitre-tactic": "tactic",
    "x-mitre-data-source": "data source",
    "x-mitre-data-component": "data component",
    "x-mitre-analytic": "analytic",
    "x-mitre-detection-strategy": "detection strategy",
    "vulnerability": "vulnerability",
    "threat-actor": "threat actor",
    "indicator": "indicator",
}
# The keys of STIX itself, and those of shortened forms of it -> what stands before the value.
_FIELDS = {
    "tactics": "Tactics",
    "kill_chain_phases": "Tactics",
    "platforms": "Platforms",
    "x_mitre_platforms": "Platforms",
    "aliases": "Also known as",
    "x_mitre_aliases": "Also known as",
    "x_mitre_detection": "Detection",
    "x_capec_alternate_terms": "Also known as",
    "x_capec_likelihood_of_attack": "Likelihood of attack",
    "x_capec_typical_severity": "Typical severity",
    "x_capec_prerequisites": "Prerequisites",
    "x_capec_skills_required": "Skills required",
    "x_capec_resources_required": "Resources required",
    "x_capec_consequences": "Consequences",
    "x_capec_execution_flow": "Execution flow",
    "x_capec_example_instances": "Example",
}
_CITATION = re.compile(r" ?\(Citation: [^()]*(?:\([^()]*\)[^()]*)*\)")
_BREAKS = "p|div|li|ul|ol|tr|table|tbody|h[1-6]|br"
_TAG = re.compile(rf"</?(?:xhtml:)?({_BREAKS}|td|th|b|i|em|strong|code|pre|span|a)\b[^<>]*>")
_REF = re.compile(r" ?\[REF-\d+\]")


def is_object(row: Row) -> bool:
    """Whether a record is a STIX object, whole or shortened."""
    names = (row.get("stix_id"), row.get("id"))
    return "type" in row and any(isinstance(n, str) and "--" in n for n in names)


def attack_entry(row: Row) -> Section | None:
    """Read an object that tells something; None for the others and for what is out of date."""
    kind, name = TYPES.get(str(row["type"])), clean_line(str(row.get("name", "")))
    if kind is None or not name or row.get("revoked") or row.get("x_mitre_deprecated"):
        return None
    number = _number(row)
    described = markdown_to_text(
        _TAG.sub(_untag, _CITATION.sub("", str(row.get("description", ""))))
    )
    known = f"{kind} {number}" if number and not number.startswith("CAPEC") else number or kind
    return Section(
        text=clean_text("\n\n".join(part for part in (described, *_fields(row, name)) if part)),
        headings=(f"{name} ({known})",),
        record=number or _id(row),
    )


def _id(row: Row) -> str:
    return str(row["id"] if "id" in row else row["stix_id"])


def _number(row: Row) -> str:
    """The common id of the object, as T1055, which STIX keeps among the references."""
    if "--" not in _id(row):
        return clean_line(_id(row))
    references = row.get("external_references")
    for reference in references if isinstance(references, list) else []:
        named = isinstance(reference, dict) and str(reference.get("source_name", "")).lower()
        if named and named.startswith(("mitre", "capec")):
            return clean_line(str(reference.get("external_id", "")))
    return ""


def _fields(row: Row, name: str) -> Iterator[str]:
    for key, label in _FIELDS.items():
        told = [text for text in _told(row.get(key)) if text and text != name]
        if told:
            long = any("\n" in text or len(text) > 100 for text in told)
            yield f"{label}: " + ("\n" if long else ", ").join(told)


def _told(value: Any) -> Iterator[str]:
    """Texts, lists of them, texts by name, and phases of a kill chain."""
    if isinstance(value, str):
        text = clean_text(_REF.sub("", _TAG.sub(_untag, html.unescape(_CITATION.sub("", value)))))
        lines = (" ".join(line.split()) for line in text.split("\n"))
        yield "\n".join(line for line in lines if line)
    elif isinstance(value, list):
        for part in value:
            yield from _told(part.get("phase_name", "") if isinstance(part, dict) else part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"{key.replace('_', ' ')}: " + ", ".join(_told(part))


def _untag(tag: re.Match[str]) -> str:
    if re.fullmatch(_BREAKS, tag[1]):
        return "\n"
    # An example of code stays as it is written, markup of Markdown included.
    return "`" if tag[1] == "code" else " " if tag[1] in ("td", "th") else ""


# --- CWE

_KEYS = (
    *("SCOPE", "IMPACT", "LIKELIHOOD", "NOTE", "METHOD", "DESCRIPTION", "EFFECTIVENESS"),
    *("EFFECTIVENESS NOTES", "PHASE", "STRATEGY", "TERM", "REFERENCE", "LINK", "TYPE"),
)
_KEY = re.compile(rf"(?:^|:)(:?)({'|'.join(sorted(_KEYS, key=len, reverse=True))}):")
# Column -> what stands before each of its entries, the keys that name it, the keys that tell it.
_COLUMNS = {
    "Alternate Terms": ("Also known as", ("TERM",), ("DESCRIPTION",)),
    "Background Details": ("Background", (), ()),
    "Common Consequences": ("Consequence for", ("SCOPE",), ("IMPACT", "NOTE")),
    "Detection Methods": ("Detection by", ("METHOD",), ("DESCRIPTION", "EFFECTIVENESS NOTES")),
    "Potential Mitigations": ("Mitigation in", ("PHASE", "STRATEGY"), ("DESCRIPTION",)),
    "Observed Examples": ("Example", ("REFERENCE",), ("DESCRIPTION",)),
}


def is_weakness(row: Row) -> bool:
    """Whether a record is a row of CWE's table."""
    return "CWE-ID" in row and "Name" in row


def weakness(row: Row) -> Section:
    """Read a weakness with its consequences, mitigations and examples."""
    number = f"CWE-{clean_line(str(row['CWE-ID']))}"
    texts = [str(row.get("Description") or ""), str(row.get("Extended Description") or "")]
    for column, (label, names, tells) in _COLUMNS.items():
        value = str(row.get(column) or "")
        texts.append("\n".join(_entries(value, label, names, tells)))
    return Section(
        text=clean_text(html.unescape("\n\n".join(text for text in texts if text.strip()))),
        headings=(f"{number}: {clean_line(str(row['Name']))}",),
        record=number,
    )


def _entries(
    value: str, label: str, names: tuple[str, ...], tells: tuple[str, ...]
) -> Iterator[str]:
    """Write `::SCOPE:Integrity:IMPACT:Modify Files::` as `Consequence for Integrity: Modify …`."""
    if not names:
        yield from (f"{label}: {text}" for text in value.strip(":").split("::") if text)
        return
    for found in _parsed(value):
        named = ", ".join(text for key in names for text in found.get(key, ()))
        told = [", ".join(found[key]) for key in tells if key in found]
        yield f"{label} {named}" + (f": {'. '.join(told)}" if told else "")


def _parsed(value: str) -> Iterator[dict[str, list[str]]]:
    _, *parts = _KEY.split(value.removesuffix("::"))
    found: dict[str, list[str]] = {}
    for begins, key, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if begins and found:
            yield found
            found = {}
        found.setdefault(key, []).append(text.strip(" :"))
    if found:
        yield found
