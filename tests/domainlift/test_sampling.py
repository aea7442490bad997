from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.sampling import (
    Remainder,
    duplicate_ids,
    even_quotas,
    hash_order,
    sample_evenly,
    seeded_random,
    stratified,
)
from domainlift.types import Question

SIZES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30), max_size=8)
LIMITS = st.integers(0, 120)
SEEDS = st.integers(-5, 5)


def questions(sizes: dict[str, int]) -> list[Question]:
    return [
        Question(f"{name}{n}", name, "exam", "?", ("x", "y"), 0)
        for name, size in sizes.items()
        for n in range(size)
    ]


def ids(chosen: list[Question]) -> set[str]:
    return {question.id for question in chosen}


REMAINDERS = st.sampled_from(["first", "largest"])


@given(SIZES, LIMITS, REMAINDERS)
def test_quotas_share_out_all_that_can_be_had(
    sizes: dict[str, int], limit: int, remainder: Remainder
) -> None:
    quotas = even_quotas(sizes, limit, remainder)
    assert quotas.keys() == sizes.keys()
    assert all(0 <= quotas[name] <= size for name, size in sizes.items())
    assert sum(quotas.values()) == min(limit, sum(sizes.values()))


@given(SIZES, LIMITS, REMAINDERS)
def test_only_a_small_group_gets_less_than_another(
    sizes: dict[str, int], limit: int, remainder: Remainder
) -> None:
    quotas = even_quotas(sizes, limit, remainder)
    most = max(quotas.values(), default=0)
    assert all(quota >= most - 1 or quota == sizes[name] for name, quota in quotas.items())


@given(SIZES, LIMITS)
def test_quotas_grow_with_the_limit(sizes: dict[str, int], limit: int) -> None:
    smaller, larger = even_quotas(sizes, limit), even_quotas(sizes, limit + 1)
    assert all(smaller[name] <= larger[name] for name in sizes)


@pytest.mark.parametrize(
    ("sizes", "limit", "quotas"),
    [
        ({"a": 9, "b": 9, "c": 9}, 6, {"a": 2, "b": 2, "c": 2}),
        ({"a": 9, "b": 9, "c": 9}, 7, {"a": 3, "b": 2, "c": 2}),
        ({"a": 1, "b": 9, "c": 9}, 7, {"a": 1, "b": 3, "c": 3}),
        ({"a": 9, "b": 0}, 4, {"a": 4, "b": 0}),
        ({"a": 2, "b": 1}, 9, {"a": 2, "b": 1}),
        ({"b": 5, "a": 5}, 1, {"a": 1, "b": 0}),
        ({}, 5, {}),
    ],
)
def test_quotas(sizes: dict[str, int], limit: int, quotas: dict[str, int]) -> None:
    assert even_quotas(sizes, limit) == quotas


@given(SIZES, LIMITS, SEEDS)
def test_a_sample_is_determined_and_in_the_given_order(
    sizes: dict[str, int], limit: int, seed: int
) -> None:
    pool = questions(sizes)
    chosen = stratified(pool, limit, seed)
    assert chosen == stratified(pool, limit, seed)
    assert chosen == [question for question in pool if question in chosen]
    assert ids(chosen) == ids(stratified(pool[::-1], limit, seed))


@given(SIZES, LIMITS, LIMITS, SEEDS)
def test_a_larger_sample_contains_the_smaller(
    sizes: dict[str, int], one: int, other: int, seed: int
) -> None:
    pool, (small, large) = questions(sizes), sorted((one, other))
    assert ids(stratified(pool, small, seed)) <= ids(stratified(pool, large, seed))


@given(SIZES, LIMITS, SEEDS, st.sampled_from("abcdefgh"))
def test_a_new_question_changes_the_sample_only_by_itself(
    sizes: dict[str, int], limit: int, seed: int, domain: str
) -> None:
    pool = questions(sizes)
    new = Question("new", domain, "exam", "?", ("x", "y"), 0)
    before, after = ids(stratified(pool, limit, seed)), ids(stratified([*pool, new], limit, seed))
    assert after - before <= {"new"}
    assert len(before - after) <= 1


def test_the_seed_changes_the_sample_and_it_is_not_the_first_ones() -> None:
    pool = questions({"a": 200})
    first = {question.id for question in pool[:20]}
    samples = [ids(stratified(pool, 20, seed)) for seed in range(5)]
    assert all(sample != first for sample in samples)
    assert len(set(map(frozenset, samples))) == 5


def test_ids_that_stand_there_twice_are_found() -> None:
    pool = questions({"a": 3, "b": 2})
    assert duplicate_ids(pool) == set()
    assert duplicate_ids([*pool, pool[0], pool[0], pool[3]]) == {"a0", "b0"}


# Samples of the first version; fingerprints of runs and rows of trainings depend on them.
GROUPS = {"history": 30, "biology": 4, "law": 17}
NAMES = [f"{group}-{n}" for group, size in GROUPS.items() for n in range(size)]
KEPT = [
    *("history-12", "history-13", "history-14", "history-23"),
    *("biology-0", "biology-1", "biology-3", "law-4", "law-5", "law-9"),
]


def test_samples_stay_what_they_were() -> None:
    pool = [Question(name, name.split("-")[0], "t", "x", (), "y") for name in NAMES]
    assert ids(stratified(pool, 11, 3)) == {*KEPT, "biology-2"}
    sample = sample_evenly(NAMES, 11, 3, name=str, kind=lambda name: name.split("-")[0])
    assert sample == [*KEPT, "law-12"]
    assert even_quotas(GROUPS, 11) == {"history": 4, "biology": 4, "law": 3}
    assert even_quotas(GROUPS, 11, "largest") == {"history": 4, "biology": 3, "law": 4}


def test_orders_stay_what_they_were() -> None:
    names = ["", "a", "é", "law-3", "grün 🤷"]
    assert sorted(names, key=lambda name: hash_order(name, 7)) == ["grün 🤷", "é", "law-3", "", "a"]
    assert sorted(names, key=hash_order) == ["grün 🤷", "é", "a", "law-3", ""]
    assert hash_order("law-3").hex().startswith("d58e435bcaae233c0cfb82d3263a684b")
    assert hash_order("law-3", 7).hex().startswith("41a5f945bb0c5602c8d6c39e0c70d97d")
    assert hash_order("law-3", "selection").hex().startswith("cd5518347ad9b3ddcc2525cf5c52e550")
    assert hash_order("\ud83d")
    assert seeded_random("law-3", 7).random() == 0.2834167211246723


def test_a_choice_depends_on_names_and_seed_only() -> None:
    names = [f"{n}" for n in range(50)]

    def chosen(given: list[str], seed: int) -> set[str]:
        return set(sample_evenly(given, 10, seed, name=str, kind=lambda _: ""))

    assert chosen(names, 1) == chosen(names[::-1], 1)
    assert chosen(names, 1) != chosen(names, 2)
    assert len(chosen([*names, "x"], 1) ^ chosen(names, 1)) in (0, 2)
