from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from finetune.data.mixing import mix, natural_size
from finetune.data.recipe import BUILT_IN, Recipe, read_recipe, read_setting
from finetune.data.rows import Row


class Method(StrEnum):
    LORA = "lora"
    FULL = "full"


@dataclass(frozen=True)
class Settings:
    method: Method = Method.LORA
    rank: int = 16
    learning_rate: float = 1e-4
    packing: bool = True
    targets: tuple[str, ...] = ()
    precision: Literal["bf16", "fp32"] = "fp32"
    steps: int | None = None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def rows(domain: str, count: int, kind: str = "question") -> list[Row]:
    return [Row(f"{domain} {kind} {n}?", f" {n}", domain, kind) for n in range(count)]


# --- reading


def test_the_seed_case_that_comes_with_the_project() -> None:
    recipe = read_recipe(BUILT_IN / "seed.yaml", Settings)
    shares = {"biology": 0.3, "history": 0.3, "security": 0.2, "mathematics": 0.1, "reasoning": 0.1}
    assert recipe == Recipe(shares, replay=1.0, order="shuffled", seed=0)


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_that_comes_with_the_project_is_right(path: Path) -> None:
    read_recipe(path)


def test_all_that_a_recipe_can_say(tmp_path: Path) -> None:
    text = """
        proportions: {biology: .75, history: 25e-2}
        replay: 0.5
        order: easy-to-hard
        seed: 7
        training:
          method: full
          rank: 8
          learning_rate: 2e-4
          packing: false
          targets: [q_proj, v_proj]
          precision: bf16
          steps: 1_000
    """
    text = text.replace("1_000", "1000")
    assert read_recipe(write(tmp_path, text), Settings) == Recipe(
        {"biology": 0.75, "history": 0.25},
        replay=0.5,
        order="easy-to-hard",
        seed=7,
        training={
            "method": "full",
            "rank": 8,
            "learning_rate": 2e-4,
            "packing": False,
            "targets": ("q_proj", "v_proj"),
            "precision": "bf16",
            "steps": 1000,
        },
    )


ONE = "proportions: {biology: 1}\n"
# The recipe -> line, what is said, hint.
WRONG: list[tuple[str, int, str, str]] = [
    ("replay: 1\n", 1, "key `proportions` is missing", "add `proportions"),
    (ONE + "repaly: 1\n", 2, "unknown key `repaly`", "did you mean `replay`?"),
    (ONE + "replay: -1\n", 2, "`replay` must be a finite number, 0 or more, not `-1`", ""),
    (ONE + "replay: .inf\n", 2, "`replay` must be a finite number, 0 or more, not `.inf`", ""),
    (ONE + "replay: 1e999\n", 2, "`replay` must be a finite number", ""),
    (ONE + "replay: '1'\n", 2, "must be a finite number, 0 or more, not a text", ""),
    (ONE + "order: easy-to-herd\n", 2, "unknown order `easy-to-herd`", "did you mean `easy-to-h"),
    (ONE + "order: x\n", 2, "unknown order `x`", "known: `shuffled`, `easy-to-hard`"),
    (ONE + "seed: 1.5\n", 2, "`seed` must be a whole number", ""),
    (ONE + "training: 3\n", 2, "`training` must be keys with values, not a number", "write"),
    (ONE + "training:\n  rnak: 3\n", 3, "unknown key `rnak`", "did you mean `rank`?"),
    (ONE + "training: {rank: 1, rank: 2}\n", 2, "key `rank` stands twice", ""),
    (ONE + "training: {rank: many}\n", 2, "`rank` must be a whole number, not a text", ""),
    (ONE + "training: {rank: 1.5}\n", 2, "must be a whole number, not `1.5`", ""),
    (ONE + "training: {packing: 1}\n", 2, "`packing` must be true or false, not a number", ""),
    (
        ONE + "training: {learning_rate: true}\n",
        2,
        "must be a finite number, not true or false",
        "",
    ),
    (ONE + "training: {targets: q_proj}\n", 2, "must be a list of texts, not a text", ""),
    (ONE + "training: {method: lora2}\n", 2, "unknown method `lora2`", "did you mean `lora`?"),
    (ONE + "training: {precision: fp8}\n", 2, "unknown precision `fp8`", ""),
    (ONE + "training: {steps: [a]}\n", 2, "must be a whole number, not a list", ""),
    (ONE + "training: {rank: }\n", 2, "`rank` must be a whole number, not nothing", ""),
    ("proportions: {a: .5, b: .4}\n", 1, "`proportions` sum to 0.9, not to 1", "a: 0.555556"),
    ("proportions: {a: .5, b: .500002}\n", 1, "not to 1", ""),
    ("proportions: {}\n", 1, "`proportions` sum to 0, not to 1", ""),
    ("proportions:\n  a: 1\n  b: 0\n", 3, "proportion of `b` must be a number over 0", "leave out"),
    ("proportions: {a: yes}\n", 1, "proportion of `a` must be a number", ""),
    ("proportions: {a: 1, b: *c}\n", 1, "alias `*c` is not allowed", ""),
]


@pytest.mark.parametrize(("text", "line", "what", "hint"), WRONG, ids=[w[0][-30:] for w in WRONG])
def test_each_fault_is_said_with_its_line(
    text: str, line: int, what: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(Malformed) as error:
        read_recipe(write(tmp_path, text), Settings)
    assert error.value.what.startswith(f"{tmp_path / 'mine.yaml'}:{line}: ")
    assert what in error.value.what
    assert hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("method=full", "full"),
        ("rank = 8", 8),
        ("learning_rate=1e-4", 1e-4),
        ("learning_rate=1", 1),
        ("packing=false", False),
        ("targets=q_proj, v_proj", ("q_proj", "v_proj")),
        ("steps=7", 7),
    ],
)
def test_a_setting_of_the_command_line_is_read_by_its_type(text: str, value: object) -> None:
    name, given = read_setting(text, Settings)
    assert name == text.partition("=")[0].strip()
    assert given == value
    assert type(given) is type(value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("rank", "`rank` is no setting"),
        ("rnak=8", "no setting `rnak`"),
        ("rank=many", "`rank` must be a whole number, not a text"),
        ("rank=[[", "not YAML"),
        ("rank=", "`rank` must be a whole number, not nothing"),
        ("method=lora2", "unknown method `lora2`"),
    ],
)
def test_a_wrong_setting_of_the_command_line_is_named(text: str, what: str) -> None:
    with pytest.raises(Misuse) as error:
        read_setting(text, Settings)
    assert what in error.value.what


def test_proportions_need_not_sum_to_one_in_the_last_digit(tmp_path: Path) -> None:
    text = "proportions: {a: 0.3333333, b: 0.3333333, c: 0.3333333}\n"
    assert len(read_recipe(write(tmp_path, text)).proportions) == 3


# --- mixing


def test_a_mix_is_what_the_recipe_says() -> None:
    domains = {name: rows(name, 400) for name in ("biology", "history", "general")}
    domains["general"] = rows("general", 400, "replay")
    domains["biology"] += rows("biology", 50, "replay")
    recipe = Recipe({"biology": 0.75, "history": 0.25}, replay=1.0, seed=1)
    made = mix(domains, recipe, 160)
    assert (made.new, made.replay) == (
        {"biology": 60, "history": 20},
        {"biology": 40, "general": 40},
    )
    counted = Counter((row.domain, row.kind) for row in made.rows)
    assert counted == {
        ("biology", "question"): 60,
        ("history", "question"): 20,
        ("biology", "replay"): 40,
        ("general", "replay"): 40,
    }
    assert len({row.id for row in made.rows}) == 160
    assert (made.repeated, made.notes) == ({}, ())


def test_a_strength_gives_the_replay_rows_that_it_has() -> None:
    domains = {"biology": rows("biology", 90), "reasoning": rows("reasoning", 10, "replay")}
    made = mix(domains, Recipe({"biology": 0.9, "reasoning": 0.1}), 100)
    assert made.new == {"biology": 90, "reasoning": 10}
    assert made.replay == {}


def test_only_what_is_too_little_is_repeated_and_that_is_said() -> None:
    domains = {"a": rows("a", 10), "b": rows("b", 100), "c": rows("c", 4, "replay")}
    made = mix(domains, Recipe({"a": 0.5, "b": 0.5}, replay=0.5), 60)
    assert made.repeated == {"a": 2.0, "c (replay)": 5.0}
    assert made.notes[0] == "a: each row stands 2 times in the mix"
    counted = Counter(row.id for row in made.rows)
    assert {counted[row.id] for row in domains["a"]} == {2}
    assert {counted[row.id] for row in domains["b"]} == {0, 1}


def test_a_mix_without_replay_says_so() -> None:
    made = mix({"a": rows("a", 10)}, Recipe({"a": 1.0}), 10)
    assert len(made.rows) == 10
    assert made.notes == ("no replay rows: nothing keeps what the model knows already",)
    assert mix({"a": rows("a", 10)}, Recipe({"a": 1.0}, replay=0), 10).notes == ()


def test_domains_without_rows() -> None:
    with pytest.raises(NoSuch, match="no domain with rows `biolgy`") as error:
        mix({"biology": rows("biology", 1)}, Recipe({"biolgy": 1.0}), 1)
    assert "did you mean `biology`?" in str(error.value.hint)
    with pytest.raises(BenchError, match="`biology` has no rows"):
        mix({"biology": []}, Recipe({"biology": 1.0}), 1)


def test_the_order() -> None:
    domains = {"a": rows("a", 50)}
    shuffled = mix(domains, Recipe({"a": 1.0}, seed=1), 50).rows
    assert shuffled == mix({"a": domains["a"][::-1]}, Recipe({"a": 1.0}, seed=1), 50).rows
    assert shuffled != mix(domains, Recipe({"a": 1.0}, seed=2), 50).rows
    sorted_ = Recipe({"a": 1.0}, order="easy-to-hard")

    def by_number(asked: Sequence[Row]) -> list[float]:
        return [math.nan if row.completion == " 3" else float(row.completion) for row in asked]

    made = [int(row.completion) for row in mix(domains, sorted_, 50, by_number).rows]
    assert made == [n for n in range(50) if n != 3] + [3]
    with pytest.raises(BenchError, match="needs the base model's loss"):
        mix(domains, sorted_, 50)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    st.integers(1, 120),
)
def test_counts_fit_the_proportions(weights: list[int], ratio: float, size: int) -> None:
    names = "abcde"[: len(weights)]
    shares = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    domains = {name: rows(name, 7) for name in names} | {"z": rows("z", 7, "replay")}
    made = mix(domains, Recipe(shares, replay=ratio), size)
    assert len(made.rows) == size
    assert sum(made.replay.values()) == pytest.approx(size * ratio / (1 + ratio), abs=0.51)
    new = sum(made.new.values())
    assert all(abs(made.new[name] - share * new) < 1 for name, share in shares.items())


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60), st.sampled_from([0.0, 0.5, 1]))
def test_the_natural_size_repeats_nothing(a: int, b: int, old: int, ratio: float) -> None:
    domains = {"a": rows("a", a), "b": rows("b", b), "c": rows("c", old, "replay")}
    recipe = Recipe({"a": 0.5, "b": 0.5}, replay=ratio)
    size = natural_size(domains, recipe)
    for name, times in mix(domains, recipe, size).repeated.items() if size else ():
        count = {"a": a, "b": b, "c (replay)": old}[name]
        assert times * count <= count + 1
