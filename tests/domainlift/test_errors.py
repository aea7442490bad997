from __future__ import annotations

from pathlib import Path

import pytest

from domainlift.errors import BenchError, EngineDown, Interrupted, Malformed, Misuse, NoSuch


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BenchError("it failed"), 1),
        (EngineDown("it is gone"), 1),
        (Interrupted("stopped"), 130),
        (Misuse("it is wrong"), 2),
        (NoSuch("suite", "mmul", ["mmlu"]), 2),
        (Malformed(Path("x.yaml"), "is empty"), 2),
    ],
)
def test_a_kind_of_error_has_its_exit_code(error: BenchError, code: int) -> None:
    assert error.exit_code == code
    assert str(error) == error.what


@pytest.mark.parametrize(
    ("name", "known", "see", "hint"),
    [
        ("mmul", ["mmlu", "demo"], "", "did you mean `mmlu`?"),
        ("mmul", ["mmlu", "demo"], "bench x", "did you mean `mmlu`? `bench x` shows all 2"),
        ("zzz", ["mmlu", "demo"], "", "known: `demo`, `mmlu`"),
        ("zzz", ["mmlu", "demo"], "bench x", "`bench x` shows all 2"),
        ("zzz", [], "", "known: none"),
        ("", ["mmlu"], "", "known: `mmlu`"),
    ],
)
def test_an_unknown_name_leads_to_those_that_exist(
    name: str, known: list[str], see: str, hint: str
) -> None:
    error = NoSuch("suite", name, known, see)
    assert error.what == f"no suite `{name}`"
    assert error.hint == hint


def test_known_names_may_come_from_anything_that_can_be_walked() -> None:
    assert NoSuch("suite", "demp", (name for name in ("demo",))).hint == "did you mean `demo`?"


def test_where_nothing_exists_the_command_that_makes_the_first_is_told() -> None:
    assert NoSuch("run", "x", [], "bench runs list", "bench run").hint == (
        "there is none yet: `bench run` makes one"
    )
    assert NoSuch("run", "x", ["y"], "bench runs list", "bench run").hint == (
        "`bench runs list` shows all 1"
    )


def test_a_malformed_file_names_its_place() -> None:
    assert Malformed(Path("a.jsonl"), "is empty").what == "a.jsonl: is empty"
    assert Malformed(Path("a.jsonl"), "is broken", line=7, hint="mend it").what == (
        "a.jsonl:7: is broken"
    )
