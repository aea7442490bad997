from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError, Malformed, NoSuch
from ensemble.plan import DomainTreatment, Plan, write_plan
from ensemble.router.keywords import DomainTerms, Keywords, write_keywords
from improve.versions.champion import champion_plan, champion_stamp
from improve.versions.version import Event, State, read_event, replay
from improve.versions.version_log import VersionRegistry


def plan(
    workspace: Path,
    name: str,
    model: str = "tiny",
    adapter: str = "",
    domain: str = "law",
    **more: Any,
) -> Path:
    """A promoted plan, which another `adapter` makes another one."""
    path = workspace / "plans" / f"{name}.yaml"
    write_keywords(path.with_suffix(".routes.yaml"), Keywords({"law": DomainTerms(0.5)}))
    domains = {domain: DomainTreatment("lora", adapter=adapter or name, adapter_digest="sha256:ab")}
    made = Plan(model, "sha256:cd", domains, f"{name}.routes.yaml", verdict="promoted")
    write_plan(path, replace(made, **{"created": "2026-01-01", **more}))
    return path


def states(registry: VersionRegistry) -> dict[str, str]:
    return {version.name: version.state.value for version in registry.versions()}


def test_what_is_registered_is_served_and_the_one_before_is_archived(tmp_path: Path) -> None:
    registry = VersionRegistry(tmp_path)
    first = registry.register(plan(tmp_path, "one"), State.CHAMPION, "improve", "better")
    second = registry.register(plan(tmp_path, "two"), State.CHAMPION, "improve", "better still")
    assert states(registry) == {"v0001": "champion", "v0002": "archived"} | {
        "v0001": "archived",
        "v0002": "champion",
    }
    assert champion_plan(tmp_path) == tmp_path / "versions" / "v0002" / "two.yaml"
    assert registry.get("v0001").last.why == "v0002: better still"
    back = registry.move(registry.former(second).name, State.CHAMPION, "person", "worse")
    assert back.name == first.name
    with pytest.raises(BenchError, match="no version before `v0001`"):
        registry.former(back)


def test_a_copy_is_served_so_that_no_later_loop_changes_it(tmp_path: Path) -> None:
    registry = VersionRegistry(tmp_path)
    path = plan(tmp_path, "one")
    registry.register(path, State.CHAMPION, "improve", "better")
    served = champion_plan(tmp_path)
    before = served.read_bytes()
    path.write_text("another plan")
    path.with_suffix(".routes.yaml").unlink()
    assert champion_plan(tmp_path).read_bytes() == before
    served.write_text(served.read_text().replace("two", "three") + "# edited\n")
    with pytest.raises(Malformed, match="not as it was when its version was registered") as error:
        champion_plan(tmp_path)
    assert "bench versions rollback" in str(error.value.hint)


def test_the_same_again_is_no_new_version_and_quarantine_holds(tmp_path: Path) -> None:
    registry = VersionRegistry(tmp_path)
    registry.register(plan(tmp_path, "one"), State.CHAMPION, "improve", "better")
    again = plan(tmp_path, "again", adapter="one", created="2026-02-02")
    assert registry.register(again, State.CHAMPION, "improve", "again").name == "v0001"
    bad = registry.register(plan(tmp_path, "bad"), State.CHAMPION, "improve", "better")
    registry.move("v0001", State.CHAMPION, "watch", "worse", State.QUARANTINED)
    found = registry.register(plan(tmp_path, "bad"), State.CHAMPION, "improve", "better")
    assert (found.name, found.state) == (bad.name, State.QUARANTINED)
    assert registry.move(bad.name, State.CHAMPION, "person", "why not").state is State.CHAMPION


def test_each_model_has_its_champion(tmp_path: Path) -> None:
    registry = VersionRegistry(tmp_path)
    registry.register(plan(tmp_path, "one", "a"), State.CHAMPION, "improve", "")
    registry.register(plan(tmp_path, "two", "b"), State.CHAMPION, "improve", "")
    assert champion_plan(tmp_path, "a").name == "one.yaml"
    assert champion_plan(tmp_path).name == "two.yaml"
    with pytest.raises(BenchError, match="no plan for `c`"):
        champion_plan(tmp_path, "c")


def test_an_older_workspace_is_read_as_it_is_and_adopted_when_written(tmp_path: Path) -> None:
    plan(tmp_path, "one")
    last = plan(tmp_path, "two", created="2026-03-01")
    plan(tmp_path, "no", verdict="rejected", created="2026-04-01")
    (tmp_path / "plans" / "broken.yaml").write_text("no plan at all")
    registry = VersionRegistry(tmp_path)
    assert champion_plan(tmp_path) == last
    assert not registry.root.exists()
    stamp = champion_stamp(tmp_path)
    registry.adopt()
    assert states(registry) == {"v0001": "archived", "v0002": "champion"}
    assert champion_stamp(tmp_path) != stamp
    assert champion_plan(tmp_path).read_bytes() == last.read_bytes()
    assert registry.get("v0002").created == "2026-03-01"
    registry.register(plan(tmp_path, "three"), State.CHALLENGER, "improve", "better")
    assert champion_plan(tmp_path).name == "two.yaml"


def test_a_version_is_dropped_with_its_files_and_its_number_is_not_given_again(
    tmp_path: Path,
) -> None:
    registry = VersionRegistry(tmp_path)
    for name in ("one", "two"):
        registry.register(plan(tmp_path, name), State.CHAMPION, "improve", "better")
    with pytest.raises(BenchError, match="`v0002` is served"):
        registry.remove("v0002")
    registry.remove("v0001")
    assert not (registry.root / "v0001").exists()
    with pytest.raises(NoSuch):
        registry.get("v0001")
    registry.move("v0002", State.ARCHIVED, "person", "")
    registry.remove("v0002")
    new = registry.register(plan(tmp_path, "three"), State.CHAMPION, "improve", "better")
    assert new.name == "v0003"


def test_a_kill_before_the_line_leaves_nothing_that_stays(tmp_path: Path) -> None:
    registry = VersionRegistry(tmp_path)
    registry.register(plan(tmp_path, "one"), State.CHAMPION, "improve", "better")
    whole = registry.log.read_bytes()
    registry.register(plan(tmp_path, "two"), State.CHAMPION, "improve", "better")
    line = registry.log.read_bytes()[len(whole) :]
    for torn in (b"", line[:1], line[: len(line) // 2], line[:-1]):
        registry.log.write_bytes(whole + torn)
        assert champion_plan(tmp_path).name == "one.yaml"
    again = registry.register(plan(tmp_path, "two"), State.CHAMPION, "improve", "better")
    assert again.name == "v0002"
    assert champion_plan(tmp_path).name == "two.yaml"


def test_a_first_line_that_was_torn_is_adopted_anew(tmp_path: Path) -> None:
    plan(tmp_path, "one")
    registry = VersionRegistry(tmp_path)
    registry.adopt()
    registry.log.write_bytes(registry.log.read_bytes()[:40])
    assert champion_plan(tmp_path).name == "one.yaml"
    registry.register(plan(tmp_path, "two"), State.CHAMPION, "improve", "better")
    assert states(registry) == {"v0001": "archived", "v0002": "champion"}


MADE = {
    "plan": "x.yaml",
    "created": "",
    "digest": "",
    "content": "",
    "files": {},
    "command": "",
    "evidence": {"interval": None},
}
EVENTS = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([*State, None]), st.sampled_from([*State][2:])),
    max_size=30,
)


@given(EVENTS)
def test_whatever_happens_a_model_has_one_champion_at_most(
    drawn: list[tuple[int, State | None, State]],
) -> None:
    events, alive = [], set()
    for number, state, former in drawn:
        name = f"v{number:04d}"
        made = {} if name in alive else {**MADE, "name": name, "model": f"m{number % 2}"}
        if made and state is None:
            continue
        alive = alive - {name} if state is None else alive | {name}
        event = Event(name, "", "x", "y", state, made, former)
        events.append(read_event(json.loads(json.dumps(event.row()))))
    versions = replay(events)
    assert set(versions) == alive
    for model in ("m0", "m1"):
        of_model = [v for v in versions.values() if v.model == model]
        assert sum(version.state is State.CHAMPION for version in of_model) <= 1
