"""Plan: which treatment the questions of each domain get, and on what evidence.

A plan is a YAML file that a person can read and change. What it names (a generation of a knowledge
base, a version of an adapter, a keyword file) stands in it with a fingerprint, so that another one
of that name is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed, NoSuch
from domainlift.files import safe_join, write_text
from domainlift.yaml_schema import Field, Node, Value, dump_yaml, read_yaml
from rag.retrieval_gate import NEVER, OPEN, Gate
from rag.treatment import PASSAGES, TOKENS

SCHEMA = 1


@dataclass(frozen=True)
class TreatmentEntry:
    """A kind of treatment: whether it uses passages and an adapter.

    `step` names one more step, "module:function" with (Question, Treatment) -> Treatment: it gets
    what the router, the passages and the adapter have made of a question. "" for none.
    """

    passages: bool = False
    adapter: bool = False
    step: str = ""


#: The name of a treatment in a plan -> what it does. The order is that of their cost.
TREATMENTS: Mapping[str, TreatmentEntry] = {
    "base": TreatmentEntry(),
    "lora": TreatmentEntry(adapter=True),
    "rag": TreatmentEntry(passages=True),
    "rag+lora": TreatmentEntry(passages=True, adapter=True),
}


@dataclass(frozen=True)
class DomainTreatment:
    """Treatment of the questions of one domain.

    `knowledge_base` is a generation, `adapter` a version with its `adapter_digest`; "" where the
    treatment has none. Without `examples` those of the form are left out. `evidence` holds run ids,
    the gain and its interval, for a reader.
    """

    treatment: str = "base"
    knowledge_base: str = ""
    gate: Gate = OPEN
    adapter: str = ""
    adapter_digest: str = ""
    evidence: Mapping[str, Value] = field(default_factory=dict)
    examples: bool = field(default=True, repr=False)

    @property
    def uses_passages(self) -> bool:
        """Whether passages may come in."""
        return TREATMENTS[self.treatment].passages

    @property
    def uses_adapter(self) -> bool:
        """Whether an adapter answers."""
        return TREATMENTS[self.treatment].adapter

    def without_passages(self) -> DomainTreatment:
        """The same with its adapter alone."""
        treatment = "lora" if self.uses_adapter else "base"
        return replace(self, treatment=treatment, knowledge_base="")


@dataclass(frozen=True)
class Plan:
    """Treatments by domain for one model; a domain that is not named gets the base model.

    `router` is the name of a keyword file beside the plan, with its SHA-256. `passages` and
    `tokens` bound what stands before a question; with `query_options` its options are searched
    for too. `form` is how questions were asked when it was judged, "" for the tasks' own forms.
    """

    model: str
    digest: str
    domains: Mapping[str, DomainTreatment]
    router: str = ""
    router_sha256: str = ""
    passages: int = PASSAGES
    tokens: int = TOKENS
    query_options: bool = False
    form: str = ""
    verdict: str = ""
    created: str = ""

    @property
    def treated(self) -> tuple[str, ...]:
        """The domains that get anything besides the base model."""
        return tuple(name for name, entry in self.domains.items() if entry.treatment != "base")


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan as YAML, in one step."""
    text = dump_yaml(plan_data(plan))
    write_text(path, f"# A plan for `bench run --plan`; see docs/improve.md.\n{text}")


def plan_data(plan: Plan) -> dict[str, Any]:
    """The keys and values of a plan's file."""
    return {
        "schema": SCHEMA,
        "model": plan.model,
        "digest": plan.digest,
        **_given(created=plan.created, verdict=plan.verdict),
        **_given(router=plan.router, router_sha256=plan.router_sha256),
        "passages": plan.passages,
        "tokens": plan.tokens,
        "query_options": plan.query_options,
        **_given(form=plan.form),
        "domains": [
            {"name": name, **_treatment_data(entry)} for name, entry in plan.domains.items()
        ],
    }


def read_plan(path: Path) -> Plan:
    """Read a plan; Malformed with the line where it is not one."""
    entries = read_yaml(path, _SCHEMA)
    _check_schema(path, entries["schema"])
    empty = Node()

    def text(key: str) -> str:
        return entries.get(key, empty).text

    return Plan(
        model=text("model"),
        digest=text("digest"),
        domains=dict(_treatments(path, entries["domains"])),
        router=_router(path, entries.get("router", empty)),
        router_sha256=text("router_sha256"),
        passages=_count(path, entries, "passages", PASSAGES),
        tokens=_count(path, entries, "tokens", TOKENS),
        query_options=entries.get("query_options", empty).flag,
        form=text("form"),
        verdict=text("verdict"),
        created=text("created"),
    )


_SCHEMA: Mapping[str, Field] = {
    "schema": Field("number", required=True),
    "model": Field("text", required=True),
    "digest": Field("text", required=True),
    "domains": Field(
        "tables",
        required=True,
        keys={
            "name": Field("text", required=True),
            "treatment": Field("text", required=True),
            "knowledge_base": Field("text"),
            "gate": Field("values"),
            "adapter": Field("text"),
            "adapter_digest": Field("text"),
            "examples": Field("flag"),
            "evidence": Field("values"),
        },
    ),
    "router": Field("text"),
    "router_sha256": Field("text"),
    "passages": Field("number"),
    "tokens": Field("number"),
    "query_options": Field("flag"),
    "form": Field("text"),
    "verdict": Field("text"),
    "created": Field("text"),
}
# Key of a gate -> what it holds.
_GATE = {
    "score": "a number",
    "confidence": "a number",
    "passages": "a number",
    "shut": "true or false",
}


def _check_schema(path: Path, entry: Node) -> None:
    if entry.number != SCHEMA:
        what = f"schema {entry.number} is not the {SCHEMA} that is understood here"
        raise Malformed(path, what, line=entry.line, hint="make it anew: `bench improve`")


def _count(path: Path, entries: Mapping[str, Node], key: str, default: int) -> int:
    if key not in entries:
        return default
    return _whole(path, key, entries[key].number, entries[key].line)


def _whole(path: Path, key: str, number: float, line: int | None) -> int:
    if number != int(number) or number < 1:
        raise Malformed(path, f"`{key}` must be a whole number from 1 on", line=line)
    return int(number)


def _router(path: Path, entry: Node) -> str:
    """The keyword file's name; it stands beside the plan and nowhere else."""
    if entry.text and safe_join(path.parent, entry.text).parent != path.parent.resolve():
        raise Malformed(path, "`router` must name a file beside the plan", line=entry.line)
    return entry.text


def _treatments(path: Path, entry: Node) -> Iterator[tuple[str, DomainTreatment]]:
    seen: set[str] = set()
    for table in entry.tables:
        name = table["name"].text
        if name in seen:
            raise Malformed(path, f"domain `{name}` stands twice", line=table["name"].line)
        seen.add(name)
        yield name, _treatment(path, table)


def _treatment(path: Path, table: Mapping[str, Node]) -> DomainTreatment:
    treatment, empty = table["treatment"], Node()
    if treatment.text not in TREATMENTS:
        error = NoSuch("treatment", treatment.text, TREATMENTS)
        raise Malformed(path, error.what, line=treatment.line, hint=error.hint)
    kind = TREATMENTS[treatment.text]
    for wanted, key in ((kind.passages, "knowledge_base"), (kind.adapter, "adapter")):
        if wanted and key not in table:
            what = f"`{treatment.text}` needs `{key}`"
            raise Malformed(path, what, line=treatment.line)
    return DomainTreatment(
        treatment.text,
        knowledge_base=table.get("knowledge_base", empty).text,
        gate=_gate(path, table["gate"]) if "gate" in table else OPEN,
        adapter=table.get("adapter", empty).text,
        adapter_digest=table.get("adapter_digest", empty).text,
        evidence={key: each.value for key, each in table.get("evidence", empty).values.items()},
        examples=table["examples"].flag if "examples" in table else True,
    )


def _gate(path: Path, entry: Node) -> Gate:
    found = {key: _gate_value(path, key, each) for key, each in entry.values.items()}
    k = found.get("passages")
    return Gate(
        NEVER if found.get("shut") else found.get("score", OPEN.score),
        found.get("confidence", OPEN.confidence),
        None if k is None else int(k),
    )


def _gate_value(path: Path, key: str, each: Node) -> float:
    if key not in _GATE:
        error = NoSuch("key of a gate", key, _GATE)
        raise Malformed(path, error.what, line=each.line, hint=error.hint)
    value = each.value
    if not isinstance(value, int | float) or isinstance(value, bool) != (key == "shut"):
        raise Malformed(path, f"`{key}` must be {_GATE[key]}", line=each.line)
    return _whole(path, key, value, each.line) if key == "passages" else value


def _treatment_data(entry: DomainTreatment) -> dict[str, Any]:
    data: dict[str, Any] = {"treatment": entry.treatment}
    if entry.uses_passages:
        data["knowledge_base"] = entry.knowledge_base
        data["gate"] = _gate_data(entry.gate)
    if entry.uses_adapter:
        data |= {"adapter": entry.adapter, "adapter_digest": entry.adapter_digest}
    data |= {} if entry.examples else {"examples": False}
    return data | ({"evidence": dict(entry.evidence)} if entry.evidence else {})


def _gate_data(gate: Gate) -> dict[str, float]:
    """A gate without its evidence; YAML's infinities are refused, so an open end is left out."""
    data: dict[str, float] = {"confidence": gate.confidence}
    if gate.closed:
        data["shut"] = True
    elif gate.score != OPEN.score:
        data["score"] = gate.score
    return data | ({"passages": gate.k} if gate.k is not None else {})


def _given(**texts: str) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}
