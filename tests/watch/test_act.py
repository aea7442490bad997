"""What a look does about a champion, with made runs in the place of a model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import BenchError
from ensemble.plan import DomainTreatment, Plan, write_plan
from ensemble.router.keywords import DomainTerms, Keywords, write_keywords
from improve.versions.decision_log import ProbeLook
from improve.versions.version import State, Version
from improve.versions.version_log import VersionRegistry
from tests.helpers import made_runs
from watch import act
from watch.act import Acting
from watch.probe import ProbeAnswers

N = 60


def judged(workspace: Path, name: str, right: int) -> Path:
    """A promoted plan and the runs that judged it: so many of 60 questions right."""
    asked = [made_runs.question(i, "law") for i in range(N)]
    for run, hits in (("base", 15), (f"run-{name}", right)):
        if not (workspace / "runs" / run).exists():
            made = [(q, made_runs.record(q, i < hits, route="law")) for i, q in enumerate(asked)]
            made_runs.store(workspace, run, made, settings={"command": "bench improve --model m"})
    evidence: dict[str, Any] = {"baseline": "base", "candidate": f"run-{name}"}
    law = DomainTreatment("lora", adapter=name, adapter_digest="sha256:ab", evidence=evidence)
    path = workspace / "plans" / f"{name}.yaml"
    write_keywords(path.with_suffix(".routes.yaml"), Keywords({"law": DomainTerms(0.5)}))
    routes = f"{name}.routes.yaml"
    write_plan(path, Plan("m", "sha256:cd", {"law": law}, routes, verdict="promoted"))
    return path


class Answers:
    """What the probe set says when it is asked, version by version: how many are right."""

    def __init__(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace, self.right, self.asked = workspace, dict[str, int](), 0
        monkeypatch.setattr(act, "ask_probe", self)

    def __call__(self, plan: Path, judged_by: Path, workspace: Path, data: object) -> ProbeAnswers:
        self.asked += 1
        hits = self.right[plan.parent.name]
        run = f"probe-{self.asked}"
        asked = [made_runs.question(i, "law") for i in range(N)]
        rows = [(q, made_runs.record(q, i < hits)) for i, q in enumerate(asked)]
        made_runs.store(workspace, run, rows)
        return ProbeAnswers({q.id: i < hits for i, q in enumerate(asked)}, run, "base")


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(tmp_path, monkeypatch)


def register(workspace: Path, name: str, right: int, state: State = State.CHAMPION) -> Version:
    return VersionRegistry(workspace).register(judged(workspace, name, right), state, "x", "")


def acting(
    workspace: Path, said: dict[str, Any] | None = None, looks: Sequence[ProbeLook] = ()
) -> Acting:
    champion = VersionRegistry(workspace).champion()
    assert champion is not None

    def bench(arguments: Sequence[str]) -> dict[str, Any]:
        assert arguments == [
            "improve",
            "--model",
            "m",
            "--workspace",
            str(workspace),
            "--challenger",
        ]
        assert said is not None
        return said

    return Acting(workspace, champion, looks, bench)


def states(workspace: Path) -> list[str]:
    return [version.state.value for version in VersionRegistry(workspace).versions()]


def test_a_challenger_that_is_not_worse_is_promoted_and_asked(
    tmp_path: Path, answers: Answers
) -> None:
    register(tmp_path, "one", 50)
    register(tmp_path, "two", 49, State.CHALLENGER)
    answers.right = {"v0002": 49}
    done = act.challenge(acting(tmp_path, {"verdict": "promoted", "why": ""}))
    assert (done.decision, done.challenger) == ("promote", "v0002")
    assert states(tmp_path) == ["archived", "champion"]
    assert done.probe is not None
    assert (done.probe.version, done.probe.kind, done.probe.n) == ("v0002", "promised", N)


def test_a_challenger_that_loses_to_the_champion_is_archived(
    tmp_path: Path, answers: Answers
) -> None:
    register(tmp_path, "one", 50)
    register(tmp_path, "two", 40, State.CHALLENGER)  # better than the base model, all the same
    done = act.challenge(acting(tmp_path, {"verdict": "promoted", "why": ""}))
    assert done.decision == "reject"
    assert "worse than the champion: 0.667 of 60, before 0.833" in done.reason
    assert states(tmp_path) == ["champion", "archived"]
    assert answers.asked == 0


def test_what_the_gate_does_not_promote_is_a_rejection(tmp_path: Path) -> None:
    register(tmp_path, "one", 50)
    done = act.challenge(acting(tmp_path, {"verdict": "inconclusive", "why": "too few"}))
    assert (done.decision, done.challenger) == ("reject", None)
    assert "inconclusive: too few" in done.reason


def test_a_version_that_breaks_its_promise_is_rolled_back(tmp_path: Path, answers: Answers) -> None:
    register(tmp_path, "one", 50)
    register(tmp_path, "two", 55, State.CHALLENGER)
    answers.right = {"v0002": 30}
    done = act.challenge(acting(tmp_path, {"verdict": "promoted", "why": ""}))
    assert (done.decision, done.challenger) == ("rollback", "v0002")
    assert states(tmp_path) == ["champion", "quarantined"]
    again = register(tmp_path, "two", 55)  # whoever promotes it next
    assert (again.state, states(tmp_path)[0]) == (State.QUARANTINED, "champion")


def test_the_first_version_stays_where_there_is_none_before(
    tmp_path: Path, answers: Answers
) -> None:
    register(tmp_path, "one", 50)
    answers.right = {"v0001": 20}
    done = act.check_promise(acting(tmp_path))
    assert done.decision == "nothing"
    assert "worse than promised" in done.reason
    assert done.probe is not None
    assert done.probe.seen
    assert states(tmp_path) == ["champion"]


@pytest.mark.parametrize(
    ("now", "former", "decision", "wanted"),
    [
        (50, 50, "nothing", ["archived", "champion"]),
        (47, 50, "nothing", ["archived", "champion"]),
        (25, 50, "rollback", ["champion", "quarantined"]),
        (25, 26, "challenge", ["archived", "champion"]),  # the model itself got worse
    ],
)
def test_a_drop_is_rolled_back_where_the_version_before_is_better_now(
    tmp_path: Path, answers: Answers, now: int, former: int, decision: str, wanted: list[str]
) -> None:
    register(tmp_path, "one", 48)
    register(tmp_path, "two", 50)
    answers.right = {"v0002": 50}
    first = act.check_promise(acting(tmp_path))
    assert first.probe is not None
    answers.right = {"v0001": former, "v0002": now}
    done = act.look_again(acting(tmp_path, looks=[first.probe]), 7)
    assert (done.decision, states(tmp_path)) == (decision, wanted)


@pytest.mark.parametrize("command", ["", "bench run --model m", "bench watch --once"])
def test_a_version_of_unknown_make_is_told(tmp_path: Path, command: str) -> None:
    path = judged(tmp_path, "one", 50)
    manifest = tmp_path / "runs" / "run-one" / "manifest.json"
    text = manifest.read_text(encoding="utf-8").replace("bench improve --model m", command)
    manifest.write_text(text, encoding="utf-8")
    VersionRegistry(tmp_path).register(path, State.CHAMPION, "x", "")
    with pytest.raises(BenchError, match="how `v0001` was made is not known") as error:
        act.challenge(acting(tmp_path, {}))
    assert "bench improve" in str(error.value.hint)
