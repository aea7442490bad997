"""Sequences of a token tree."""

from __future__ import annotations

from engines.local.prefix_tree import TokenTree


def leaf_sequences(tree: TokenTree) -> list[list[int]]:
    """For each node, the numbers of the leaves below it: each leaf is a sequence of its own."""
    parents = set(tree.parents)
    paths: list[list[int]] = [[] for _ in tree.tokens]
    number = 0
    for node in range(len(tree.tokens)):
        if node in parents:
            continue
        above = node
        while above >= 0:
            paths[above].append(number)
            above = tree.parents[above]
        number += 1
    return paths
