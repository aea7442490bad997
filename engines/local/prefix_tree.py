"""Prefix sharing: each token that several prompts have in common is computed once.

Prompts are sorted by their tokens, so that what they share stands side by side. A *batch* is a
run of neighbours: the prefix that all of them share is kept in the model's cache, and what
follows is laid out as one tree of tokens, in which a token sees its ancestors only. A question's
options are branches of its tree, and so are its neighbours. With batches that hold a whole group
of prompts, the number of computed tokens is that of the token trie, the least possible.

A question is read at the nodes *before* each token of an option. The prefix therefore ends at
least one token before the end of every prompt, and an option that begins with all of another
option's tokens is a longer branch and nothing special.

Adapters share no computed prefixes, so the items of each are an *adapter group* with a tree of its
own. Several small groups still fill one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PromptItem:
    """A prompt with the options that may continue it, as tokens; none of them is empty.

    Only items of one adapter group share prefixes.
    """

    key: int
    prompt: Tokens
    options: tuple[Tokens, ...]
    adapter_group: int = 0

    @property
    def inner(self) -> int:
        """Upper bound of the nodes that the options add: an option's last token is only read."""
        return sum(len(option) - 1 for option in self.options)

    @property
    def reads(self) -> int:
        """Upper bound of the positions whose logits are needed."""
        return 1 + self.inner


@dataclass(frozen=True)
class Batch:
    """Items that share their first `prefix` tokens; with `prefix` 0 of several adapter groups."""

    prefix: int
    items: tuple[PromptItem, ...]

    @property
    def prefix_tokens(self) -> Tokens:
        """The tokens that must stand in the cache."""
        return self.items[0].prompt[: self.prefix]


@dataclass(frozen=True)
class LogprobRead:
    """Where an option's log-probability stands: the sum of log P(target | node)."""

    key: int
    option: int
    nodes: tuple[int, ...]
    targets: Tokens


@dataclass(frozen=True)
class TokenTree:
    """Tokens in an order in which parents come first; a parent of -1 is the prefix's end.

    `positions` count from the beginning of the prompt, prefix included. `adapter_groups` has
    the group of each token.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    positions: tuple[int, ...]
    reads: tuple[LogprobRead, ...]
    adapter_groups: tuple[int, ...]


def plan_batches(
    items: Iterable[PromptItem], *, tokens: int, reads: int, least_prefix: int = 16
) -> list[Batch]:
    """Divide items into batches of at most `tokens` nodes and `reads` read positions.

    A shared prefix is kept in the cache where it is at least `least_prefix` tokens longer than
    the one around it. A single item may exceed the limits: it cannot be divided.
    """
    ordered = sorted(items, key=lambda item: (item.adapter_group, item.prompt))
    if not ordered:
        return []
    ranges = _Ranges(ordered, tokens, reads)
    spans: list[tuple[int, int, int]] = []
    stack = [(0, len(ordered), 0)]
    while stack:
        start, stop, depth = stack.pop()
        if stop - start == 1 or ranges.fit(start, stop, depth):
            ranges.join(spans, (start, stop, depth))
            continue
        low = ranges.shared(start, stop)
        if low - depth >= least_prefix:
            stack.append((start, stop, low))
        else:
            stack.extend(reversed([(a, b, depth) for a, b in ranges.divide(start, stop)]))
    return [Batch(depth, tuple(ordered[start:stop])) for start, stop, depth in spans]


def build_tree(batch: Batch) -> TokenTree:
    """Lay out what follows the batch's prefix as one tree."""
    tokens: list[int] = []
    parents: list[int] = []
    positions: list[int] = []
    adapter_groups: list[int] = []
    children: dict[tuple[int, int, int], int] = {}

    def step(group: int, parent: int, token: int, position: int) -> int:
        node = children.setdefault((group, parent, token), len(tokens))
        if node == len(tokens):
            tokens.append(token)
            parents.append(parent)
            positions.append(position)
            adapter_groups.append(group)
        return node

    reads = []
    for item in batch.items:
        end = -1
        for position in range(batch.prefix, len(item.prompt)):
            end = step(item.adapter_group, end, item.prompt[position], position)
        for index, option in enumerate(item.options):
            nodes = [end]
            for offset, token in enumerate(option[:-1]):
                nodes.append(step(item.adapter_group, nodes[-1], token, len(item.prompt) + offset))
            reads.append(LogprobRead(item.key, index, tuple(nodes), option))
    return TokenTree(
        tuple(tokens), tuple(parents), tuple(positions), tuple(reads), tuple(adapter_groups)
    )


def trie_size(items: Iterable[PromptItem]) -> int:
    """The number of nodes of the trie over all items: no scheme computes fewer tokens.

    An option's last token is never computed, because nothing is read after it.
    """
    paths = sorted(
        (item.adapter_group, item.prompt + option[:-1])
        for item in items
        for option in item.options or ((0,),)
    )
    total = 0
    before: tuple[int, Tokens] = (0, ())
    for group, path in paths:
        total += len(path) - (common_prefix(before[1], path) if group == before[0] else 0)
        before = group, path
    return total


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    limit = min(len(a), len(b))
    low, high = 0, limit
    # Halving compares slices, which is far faster than a loop over tokens.
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _shared(a: PromptItem, b: PromptItem) -> int:
    return common_prefix(a.prompt, b.prompt) if a.adapter_group == b.adapter_group else 0


class _Ranges:
    """Costs of ranges of sorted items in constant time, from running sums."""

    def __init__(self, items: Sequence[PromptItem], tokens: int, reads: int) -> None:
        self._limits = (tokens, reads)
        self._lengths = [len(item.prompt) for item in items]
        self._shared = [0, *(_shared(a, b) for a, b in pairwise(items))]
        new = [
            length - shared + item.inner
            for item, length, shared in zip(items, self._lengths, self._shared, strict=True)
        ]
        self._new = [0, *accumulate(new)]
        self._reads = [0, *accumulate(item.reads for item in items)]

    def fit(self, start: int, stop: int, depth: int) -> bool:
        nodes = self._new[stop] - self._new[start] + self._shared[start] - depth
        tokens, reads = self._limits
        return nodes <= tokens and self._reads[stop] - self._reads[start] <= reads

    def shared(self, start: int, stop: int) -> int:
        """The prefix shared by all, ending before the last token of the shortest prompt."""
        return min(min(self._shared[start + 1 : stop]), min(self._lengths[start:stop]) - 1)

    def divide(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Cut where neighbours share least."""
        low = min(self._shared[start + 1 : stop])
        cuts = [i for i in range(start + 1, stop) if self._shared[i] == low]
        return list(zip([start, *cuts], [*cuts, stop], strict=True))

    def join(self, spans: list[tuple[int, int, int]], span: tuple[int, int, int]) -> None:
        """Append a span, or widen the last one where both fit into one batch."""
        start, stop, depth = span
        first, end, same = spans[-1] if spans else (0, -1, -1)
        together = same == depth and end == start and self._shared[start] >= depth
        if together and self.fit(first, stop, depth):
            spans[-1] = (first, stop, depth)
        else:
            spans.append(span)
