from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.held_out.split import SHARE, split_task
from benchmarks.tasks.base import ALL_MODES, Task
from domainlift.types import Question
from engines.base import Mode


def question(name: str, domain: str = "biology", cluster: str = "") -> Question:
    return Question(name, domain, "t", f"text of {name}", ("x", "y"), 0, cluster)


def task(questions: list[Question], name: str = "t") -> Task:
    return Task(name, "", tuple(questions), (), "", Mode.LETTER, ALL_MODES, 0, "d")


def ids(tasks: tuple[Task, ...]) -> set[str]:
    return {q.id for each in tasks for q in each.questions}


def test_enough_validation_questions_leave_the_test_questions_alone() -> None:
    test = [question(f"t{n}") for n in range(80)]
    found = split_task([task(test)], {"t": [question(f"v{n}") for n in range(40)]})
    assert ids(found.held_out) == {q.id for q in test}
    assert ids(found.selection) == {f"v{n}" for n in range(40)}


def test_few_validation_questions_are_joined_by_test_questions() -> None:
    test = [question(f"t{n}") for n in range(100)]
    found = split_task([task(test)], {"t": [question(f"v{n}") for n in range(11)]})
    assert len(ids(found.selection)) == 37
    assert not ids(found.selection) & ids(found.held_out)
    assert ids(found.selection) | ids(found.held_out) >= {q.id for q in test}


def test_a_task_without_validation_questions_is_divided_by_the_ids() -> None:
    test = [question(f"t{n}") for n in range(90)]
    found = split_task([task(test)], {})
    assert (len(ids(found.selection)), len(ids(found.held_out))) == (30, 60)
    assert not ids(found.selection) & ids(found.held_out)
    assert ids(split_task([task(test[::-1])], {}).selection) == ids(found.selection)
    assert "`t`: without validation questions" in found.note
    assert "30 for choosing and 60 held out" in found.note
    assert not split_task([task(test)], {"t": [question(f"v{n}") for n in range(40)]}).note


def test_a_copy_of_a_held_out_question_is_not_chosen_on() -> None:
    test = [question(f"t{n}") for n in range(9)]
    copy = Question("v", "biology", "t", test[0].text, ("x", "y"), 0)
    spare = [copy, *(question(f"w{n}") for n in range(9))]
    assert "v" not in ids(split_task([task(test)], {"t": spare}).selection)


def test_a_question_of_both_splits_is_asked_once() -> None:
    test = [question(f"t{n}") for n in range(30)]
    found = split_task([task(test)], {"t": test[:10]})
    chosen = [q.id for each in found.selection for q in each.questions]
    assert len(chosen) == len(set(chosen))
    assert not set(chosen) & ids(found.held_out)


def test_another_order_of_options_makes_no_other_question() -> None:
    test = [question(f"t{n}") for n in range(9)]
    copy = Question("v", "biology", "t", test[0].text.upper(), ("y", "x"), 1)
    spare = [copy, *(question(f"w{n}") for n in range(9))]
    assert "v" not in ids(split_task([task(test)], {"t": spare}).selection)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5)), min_size=1, max_size=60),
    st.integers(0, 20),
)
def test_retrieval_gate_stay_whole_and_a_third_is_for_choosing(
    made: list[tuple[str, int]], spare: int
) -> None:
    test = [
        question(f"t{n}", domain, f"{domain}{cluster}" if cluster else "")
        for n, (domain, cluster) in enumerate(made)
    ]
    own = [question(f"v{n}", "a") for n in range(spare)]
    found = split_task([task(test)], {"t": own})
    chosen, held = ids(found.selection), ids(found.held_out)
    assert not chosen & held
    assert chosen | held == {q.id for q in (*test, *own)}
    sides: dict[str, set[bool]] = {}
    for each in test:
        if each.cluster:
            sides.setdefault(each.cluster, set()).add(each.id in held)
    assert all(len(where) == 1 for where in sides.values())
    largest = max(Counter(q.cluster or q.id for q in test).values())
    for domain in ("a", "b"):
        every = [q for q in (*test, *own) if q.domain == domain]
        mine = sum(q.id in chosen for q in every)
        least = SHARE * len(every)
        assert mine >= least - 1e-9 or mine == len(every)
        if domain == "b":
            assert mine < least + largest


def test_the_same_questions_are_divided_in_the_same_way() -> None:
    test = [question(f"t{n}") for n in range(50)]
    assert split_task([task(test)], {}) == split_task([task(test)], {})
    fewer = ids(split_task([task(test[:25])], {}).held_out)
    # A question that is held out with few others may move, but most stay where they are.
    assert len(fewer & ids(split_task([task(test)], {}).held_out)) >= len(fewer) // 2
