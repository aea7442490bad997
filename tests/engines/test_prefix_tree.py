"""Prefix sharing, without a model."""

from hypothesis import given
from hypothesis import strategies as st

from engines.local.prefix_tree import (
    Batch,
    PromptItem,
    build_tree,
    common_prefix,
    plan_batches,
    trie_size,
)

# Few different tokens, so that prompts share prefixes and options are prefixes of one another.
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
items = st.lists(
    st.tuples(tokens, st.lists(tokens, min_size=1, max_size=4).map(tuple)), max_size=12
).map(lambda rows: [PromptItem(key, *row) for key, row in enumerate(rows)])


def paths(batch: Batch) -> dict[tuple[int, int], tuple[int, ...]]:
    """What each read sees and expects: prefix, ancestors of its first node, targets."""
    tree = build_tree(batch)
    found = {}
    for read in tree.reads:
        node, above = read.nodes[0], []
        while node >= 0:
            above.append(tree.tokens[node])
            node = tree.parents[node]
        found[read.key, read.option] = batch.prefix_tokens + tuple(above[::-1]) + read.targets
    return found


@given(items, st.integers(1, 40), st.integers(1, 10))
def test_every_option_is_read_once_after_its_own_prompt(rows, limit, reads):
    batches = plan_batches(rows, tokens=limit, reads=reads, least_prefix=2)
    seen = {}
    for batch in batches:
        for key, path in paths(batch).items():
            assert key not in seen
            seen[key] = path
    wanted = {(i.key, o): i.prompt + option for i in rows for o, option in enumerate(i.options)}
    assert seen == wanted


@given(items, st.integers(1, 40))
def test_a_batch_shares_its_prefix_and_leaves_a_token_to_read_at(rows, limit):
    for batch in plan_batches(rows, tokens=limit, reads=100, least_prefix=2):
        for item in batch.items:
            assert item.prompt[: batch.prefix] == batch.prefix_tokens
            assert batch.prefix < len(item.prompt)


@given(items, st.integers(1, 40), st.integers(1, 10))
def test_limits_hold_wherever_a_batch_can_be_divided(rows, limit, reads):
    for batch in plan_batches(rows, tokens=limit, reads=reads, least_prefix=2):
        if len(batch.items) > 1:
            assert len(build_tree(batch).tokens) <= limit
            assert len({n for r in build_tree(batch).reads for n in r.nodes}) <= reads


@given(items)
def test_one_batch_computes_the_trie_and_nothing_more(rows):
    batches = plan_batches(rows, tokens=10**6, reads=10**6)
    assert sum(len(build_tree(batch).tokens) for batch in batches) == trie_size(rows)


@given(items)
def test_parents_come_first_and_positions_count_from_the_beginning(rows):
    for batch in plan_batches(rows, tokens=20, reads=100, least_prefix=2):
        tree = build_tree(batch)
        for node, parent in enumerate(tree.parents):
            assert parent < node
            before = batch.prefix - 1 if parent < 0 else tree.positions[parent]
            assert tree.positions[node] == before + 1


def test_an_option_that_begins_with_another_is_a_longer_branch():
    """Where the shared part ran to the end of the shorter option, that one would have nothing."""
    item = PromptItem(0, (7, 8), ((1,), (1, 2), (1, 2, 3)))
    reads = build_tree(Batch(1, (item,))).reads
    assert [len(read.nodes) for read in reads] == [1, 2, 3]
    assert [read.targets for read in reads] == [(1,), (1, 2), (1, 2, 3)]


def test_a_chain_of_prompts_each_one_longer_is_planned_without_deep_recursion():
    rows = [PromptItem(n, tuple(range(n + 1)), ((0,),)) for n in range(3000)]
    assert sum(len(batch.items) for batch in plan_batches(rows, tokens=8, reads=4)) == 3000


def test_a_few_shot_block_is_kept_in_the_cache():
    block = tuple(range(100))
    rows = [PromptItem(n, (*block, 200 + n, *range(n, n + 20)), ((1,), (2,))) for n in range(50)]
    batches = plan_batches(rows, tokens=64, reads=1000)
    assert {batch.prefix for batch in batches} == {100}
    assert 100 + sum(len(build_tree(b).tokens) for b in batches) == trie_size(rows)


@given(tokens, tokens)
def test_common_prefix(a, b):
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]
