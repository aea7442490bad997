from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from benchmarks.treatments.base import BASE_POLICY, TreatmentPolicy, with_adapter
from domainlift.types import Passage, Question, Treatment


def passages(questions: Sequence[Question]) -> list[Treatment]:
    return [Treatment(passages=(Passage("text"),), reason="rag") for _ in questions]


def test_each_domain_gets_its_own_adapter_and_the_rest_the_common_one(fake: ModuleType) -> None:
    asked = [fake.question(n, domain) for n, domain in enumerate(("biology", "law", "history"))]
    own = with_adapter(BASE_POLICY, {"biology": "b", "history": "h"}, "d")
    assert [t.adapter for t in own.treat(asked)] == ["b", None, "h"]
    assert [t.reason for t in own.treat(asked)] == ["base, adapter b", "base", "base, adapter h"]
    common = with_adapter(BASE_POLICY, {"": "x", "law": "l"}, "d")
    assert [t.adapter for t in common.treat(asked)] == ["x", "l", "x"]


def test_an_adapter_leaves_the_passages_where_they_are(fake: ModuleType) -> None:
    both = with_adapter(TreatmentPolicy("passages", "p", passages), {"": "x"}, "d")
    made = both.treat([fake.question(1)])[0]
    assert (made.adapter, made.passages[0].text) == ("x", "text")
    assert both.name == "adapter + passages"


def test_other_weights_make_another_run() -> None:
    digests = {
        BASE_POLICY.digest,
        with_adapter(BASE_POLICY, {"": "x"}, "d").digest,
        with_adapter(BASE_POLICY, {"": "x"}, "e").digest,
        with_adapter(BASE_POLICY, {"law": "x"}, "d").digest,
        with_adapter(TreatmentPolicy("passages", "p", passages), {"": "x"}, "d").digest,
    }
    assert len(digests) == 5
