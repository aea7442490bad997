from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError, Malformed
from ensemble.plan import TREATMENTS, DomainTreatment, Plan, read_plan, write_plan
from rag.retrieval_gate import OPEN, SHUT, Gate

CARES = {
    "biology": DomainTreatment(
        "rag+lora",
        knowledge_base="g0001-1a2b3c4d",
        gate=Gate(0.41, 0.9, 3),
        adapter="biology/v0001",
        adapter_digest="sha256:ab",
        evidence={"n": 83, "gain": 0.71, "baseline": "demo-tiny-1"},
        examples=False,
    ),
    "history": DomainTreatment("rag", knowledge_base="g0002-1a2b3c4d", gate=OPEN),
    "law": DomainTreatment(),
}
PLAN = Plan(
    *("tiny", "sha256:cd", CARES, "a.routes.yaml", "ef"),
    form="cloze/5",
    verdict="promoted",
    created="today",
)

HEAD = "schema: 1\nmodel: tiny\ndigest: d\n"


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.yaml", PLAN)
    assert read_plan(tmp_path / "plan.yaml") == PLAN
    text = (tmp_path / "plan.yaml").read_text(encoding="utf-8")
    assert (text.count("examples: false"), text.count("form: cloze/5")) == (1, 1)
    assert PLAN.treated == ("biology", "history")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).map(lambda name: f"d-{name}"),
        st.builds(
            Gate,
            st.floats(-1, 1) | st.sampled_from([OPEN.score, SHUT.score]),
            st.floats(0, 1),
            st.none() | st.integers(1, 9),
        ),
        max_size=4,
    )
)
def test_gates_survive_the_file(tmp_path_factory: pytest.TempPathFactory, gates: object) -> None:
    assert isinstance(gates, dict)
    path = tmp_path_factory.mktemp("plans") / "plan.yaml"
    cares = {
        name: DomainTreatment("rag", knowledge_base="g", gate=gate) for name, gate in gates.items()
    }
    write_plan(path, Plan("m", "d", cares))
    assert read_plan(path).domains == cares


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("schema: 2\nmodel: m\ndigest: d\ndomains: []\n", 1, "schema 2"),
        (HEAD + "domains:\n- {name: a, treatment: raq}\n", 5, "treatment `raq`"),
        (HEAD + "domains:\n- {name: a, treatment: rag}\n", 5, "needs `knowledge_base`"),
        (HEAD + "domains:\n- {name: a, treatment: lora}\n", 5, "needs `adapter`"),
        (
            HEAD + "domains:\n- {name: a, treatment: base}\n- {name: a, treatment: base}\n",
            6,
            "stands twice",
        ),
        (
            HEAD + "domains:\n- name: a\n  treatment: rag\n  knowledge_base: g\n"
            "  gate: {scor: 0.4}\n",
            8,
            "`scor`",
        ),
        (
            HEAD + "domains:\n- name: a\n  treatment: rag\n  knowledge_base: g\n"
            "  gate: {score: high}\n",
            8,
            "must be a number",
        ),
        *(
            (
                HEAD + "domains:\n- name: a\n  treatment: rag\n  knowledge_base: g\n"
                f"  gate: {{{gate}}}\n",
                8,
                said,
            )
            for gate, said in (
                ("passages: -2", "`passages` must be a whole number from 1 on"),
                ("passages: 2.5", "`passages` must be a whole number from 1 on"),
                ("passages: true", "`passages` must be a number"),
                ("shut: 1", "`shut` must be true or false"),
                ("score: .inf", "`score` must be a finite number"),
            )
        ),
        (HEAD + "domains: []\npassages: 0\n", 5, "`passages`"),
        ("model: m\n", 1, "`schema` is missing"),
    ],
)
def test_a_bad_plan_names_its_line(tmp_path: Path, body: str, line: int, said: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(Malformed) as caught:
        read_plan(path)
    assert caught.value.what.startswith(f"{path}:{line}: ")
    assert said in caught.value.what


def test_a_shut_gate_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(path, Plan("m", "d", {"law": DomainTreatment("rag", knowledge_base="g", gate=SHUT)}))
    text = path.read_text(encoding="utf-8")
    assert "shut: true" in text
    assert "inf" not in text
    path.write_text(text.replace("shut: true", "shut: false"), encoding="utf-8")
    assert read_plan(path).domains["law"].gate == OPEN


@pytest.mark.parametrize("name", ["../elsewhere.yaml", "/etc/passwd", "sub/routes.yaml"])
def test_the_keyword_file_stands_beside_the_plan(tmp_path: Path, name: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(HEAD + f"domains: []\nrouter: {name}\n", encoding="utf-8")
    with pytest.raises(BenchError):
        read_plan(path)


def test_the_order_of_treatments_is_that_of_their_cost() -> None:
    assert list(TREATMENTS) == ["base", "lora", "rag", "rag+lora"]


def test_a_plan_may_be_named_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plans").mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path("plans") / "plan.yaml"
    write_plan(path, PLAN)
    assert read_plan(path) == PLAN
