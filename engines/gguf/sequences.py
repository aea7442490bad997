"""Sequences of a token tree, and log-probabilities of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.local.prefix_tree import TokenTree

if TYPE_CHECKING:
    import numpy as np


def log_softmax(row: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits (vocabulary,); summed in 64 bits."""
    import numpy as np

    shifted = row - row.max()
    logprobs: np.ndarray = shifted - np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
    return logprobs


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
