from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from improve.versions.version import Evidence, State, Version
from watch.decide import LONGEST_PAUSE, Action, decide
from watch.observe import Observed

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)


def version(name: str, state: State = State.CHAMPION) -> Version:
    return Version(name, "", "tiny", "sha256:ab", "plan.yaml", "c", {}, Evidence(), state=state)


#: A champion that keeps its promise, and to which nothing has happened.
CALM = Observed(
    version=version("v0002"),
    promised=True,
    looked=NOW - timedelta(days=1),
    inputs={
        "base": {"digest": "sha256:ab"},
        "documents": {"law": "d1"},
        "material": {"q.jsonl": {"sha256": "m1", "questions": 10, "rows": 0}},
    },
)


@pytest.mark.parametrize(
    ("seen", "action", "reason"),
    [
        ({}, Action.NOTHING, "nothing has changed"),
        ({"version": None}, Action.NOTHING, "no version is served"),
        ({"switched_off": "holidays", "rows": 900}, Action.NOTHING, "switched off: holidays"),
        ({"promised": False}, Action.PROMISE, "was not asked since it was promoted"),
        ({"challenger": version("v0003")}, Action.JUDGE, "`v0003` is on trial"),
        ({"changed": {"law": 1}}, Action.SYNC, "documents changed: 1 of law"),
        ({"changed": {"law": 0, "art": 0}}, Action.NOTHING, "nothing has changed"),
        ({"gone": {"law": 0.2}}, Action.NOTHING, "nothing has changed"),
        (
            {"gone": {"law": 0.6}, "halved": ("law",), "changed": {"law": 2}},
            Action.NOTHING,
            "bench kb sync law --delete",
        ),
        (
            {"halved": ("law",), "looked": NOW - timedelta(days=8), "changed": {"law": 2}},
            Action.LOOK,
            "bench kb sync law --delete",
        ),
        ({"rows": 99}, Action.NOTHING, "nothing has changed"),
        ({"rows": 100}, Action.CHALLENGE, "new: 100 rows"),
        ({"questions": 20, "rows": 200}, Action.CHALLENGE, "new: 20 questions, 200 rows"),
        ({"corrections": 10}, Action.CHALLENGE, "new: 10 feedback"),
        ({"looked": NOW - timedelta(days=6.9)}, Action.NOTHING, "nothing has changed"),
        ({"looked": NOW - timedelta(days=7)}, Action.LOOK, "last asked 7.0 days ago"),
        ({"base_changed": True}, Action.CHALLENGE, "the base model of `v0002` is another one"),
        ({"base_changed": True, "promised": False}, Action.CHALLENGE, "is another one"),
        ({"failures": 1, "failed": NOW, "rows": 900}, Action.NOTHING, "a pause of 1.0 hours"),
        ({"failures": 3, "failed": NOW}, Action.NOTHING, "nothing has changed"),
        ({"failures": 3, "failed": NOW, "rows": 900}, Action.NOTHING, "a pause of 4.0 hours"),
        ({"failures": 60, "failed": NOW, "rows": 900}, Action.NOTHING, "a pause of 168.0 hours"),
        (
            {"failures": 9, "failed": NOW, "rows": 900, "looked": NOW - timedelta(days=8)},
            Action.LOOK,
            "new: 900 rows",
        ),
        (
            {"failures": 1, "failed": NOW - timedelta(hours=1), "rows": 900},
            Action.CHALLENGE,
            "new: 900 rows",
        ),
    ],
)
def test_the_rules(seen: dict[str, Any], action: Action, reason: str) -> None:
    choice = decide(replace(CALM, **seen), NOW)
    assert choice.action is action
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("seen", "trigger"),
    [
        ({"base_changed": True}, "base"),
        ({"changed": {"law": 3}}, "documents"),
    ],
)
def test_what_came_to_nothing_does_not_fire_again_until_it_changes(
    seen: dict[str, Any], trigger: str
) -> None:
    first = replace(CALM, **seen)
    choice = decide(first, NOW)
    assert choice.triggers[trigger].fired
    again = replace(first, used=frozenset(choice.uses))
    assert decide(again, NOW).action is Action.NOTHING
    assert not decide(again, NOW).triggers[trigger].fired
    changed = {"base": {"digest": "sha256:cd"}, "documents": {"law": "d2"}}
    other = replace(again, inputs={**CALM.inputs, **changed})
    assert decide(other, NOW).triggers[trigger].fired
    served_anew = replace(again, version=version("v0003"))
    assert decide(served_anew, NOW).triggers[trigger].fired


def test_a_base_that_was_tried_in_vain_is_told_at_every_look() -> None:
    first = replace(CALM, base_changed=True)
    again = replace(first, used=frozenset(decide(first, NOW).uses), changed={"law": 1}, rows=900)
    choice = decide(again, NOW)
    assert choice.action is Action.NOTHING
    assert "restore the model" in choice.reason


@given(
    st.builds(
        replace,
        st.just(CALM),
        promised=st.booleans(),
        base_changed=st.booleans(),
        switched_off=st.sampled_from(["", "why"]),
        rows=st.integers(0, 300),
        failures=st.integers(0, 2000),
        failed=st.datetimes(datetime(2026, 5, 1), datetime(2026, 6, 1), timezones=st.just(UTC)),
    )
)
def test_a_decision_depends_on_what_is_seen_alone(seen: Observed) -> None:
    assert decide(seen, NOW) == decide(seen, NOW)
    if seen.switched_off:
        assert decide(seen, NOW).action is Action.NOTHING
    later = decide(replace(seen, switched_off=""), NOW + LONGEST_PAUSE)
    assert "a pause" not in later.reason
