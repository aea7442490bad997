"""Forward passes over token trees, with a key-value cache of their common prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from engines.local.prefix_tree import (
    Batch,
    PromptItem,
    Tokens,
    TokenTree,
    build_tree,
    common_prefix,
)

Scores = dict[int, list[tuple[float, bool]]]
Through = Callable[[Sequence[int]], AbstractContextManager[None]]

_CPU_TOKENS = 1024
_LEAST_TOKENS, _MOST_TOKENS = 256, 8192


def _no_adapters(groups: Sequence[int]) -> AbstractContextManager[None]:
    return nullcontext()


class Forward:
    """Computes log-probabilities of trees, keeping the last prefix's keys and values.

    `tokens` counts every position that went through the model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._cached: Tokens = ()
        self._cache: Any = None
        self.tokens = 0
        self.out_of_memory = (torch.OutOfMemoryError, MemoryError)
        # Rows of logits that take about 256 MiB in float32.
        self.most_reads = int(max(16, 2**28 // 4 // model.config.get_text_config().vocab_size))
        self.shares = _may_share(model) and self._tree_agrees()
        self.reset()
        self.tokens = 0

    def reset(self) -> None:
        """Drop the cached prefix."""
        self._cached, self._cache = (), None

    def batch_tokens(self) -> int:
        """A size for batches that the device's free memory holds with room to spare."""
        if self._model.device.type != "cuda":
            return _CPU_TOKENS
        free, _ = torch.cuda.mem_get_info(self._model.device)
        config = self._model.config
        # Per token: the widest activation about four times over, its keys and values in every
        # layer, and a row of the mask.
        width = 4 * max(config.intermediate_size, config.hidden_size)
        state = 2 * config.num_hidden_layers * config.hidden_size
        per_token = (width + state) * self._model.dtype.itemsize + 4 * _MOST_TOKENS
        return int(max(_LEAST_TOKENS, min(_MOST_TOKENS, free // 4 // per_token)))

    def score(self, batch: Batch, through: Through = _no_adapters) -> Scores:
        """Per item and option: log P(option | prompt) in nats, and whether it is the greedy one.

        A batch of several adapter groups needs `through`: a context for the pass, made of the group
        of each token. `shares` must be true for that.
        """
        with torch.inference_mode():
            if self.shares:
                return self._score_tree(batch, through)
            return self._score_apart(batch)

    def prefix(self, tokens: Tokens) -> Any:
        """The cache of exactly these tokens; read only."""
        kept = common_prefix(self._cached, tokens)
        if self._cache is None or not kept:
            self._cache, kept = self.new_cache(), 0
        self._cut(kept)
        rest = tokens[kept:]
        if rest:
            with torch.inference_mode():
                self.run(torch.tensor([rest], device=self._model.device), self._cache, keep=1)
        self._cached = tokens
        return self._cache

    def new_cache(self) -> Any:
        """An empty cache of keys and values."""
        return DynamicCache(config=self._model.config)

    def run(
        self,
        ids: torch.Tensor,
        cache: Any,
        *,
        keep: int | torch.Tensor,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits at the positions to keep, [rows, kept, vocabulary], and the cache extended."""
        self.tokens += ids.numel()
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=keep,
        )
        logits: torch.Tensor = output.logits
        return logits

    @property
    def device(self) -> torch.device:
        """The model's device."""
        device: torch.device = self._model.device
        return device

    @property
    def layers(self) -> int:
        """The number of layers that keep keys and values."""
        return int(self._model.config.get_text_config().num_hidden_layers)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text."""
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            return frozenset()
        return frozenset([ends] if isinstance(ends, int) else ends)

    def _cut(self, length: int) -> None:
        """Crop the cache to so many tokens."""
        surplus = self._cache.get_seq_length() - length
        if surplus > 0:
            self._cache.crop(-surplus)

    def _score_tree(self, batch: Batch, through: Through = _no_adapters) -> Scores:
        cache = self.prefix(batch.prefix_tokens)
        tree = build_tree(batch)
        read = sorted({node for r in tree.reads for node in r.nodes})
        device = self.device
        mask = torch.from_numpy(_ancestors(tree, batch.prefix)).to(device)
        with through(tree.adapter_groups):
            logits = self.run(
                torch.tensor([tree.tokens], device=device),
                cache,
                keep=torch.tensor(read, device=device),
                mask=mask[None, None],
                positions=torch.tensor([tree.positions], device=device),
            )[0]
        self._cut(batch.prefix)
        row = {node: index for index, node in enumerate(read)}
        return _gather(
            logits,
            [(r.key, [row[node] for node in r.nodes], r.targets) for r in tree.reads],
        )

    def _score_apart(self, batch: Batch) -> Scores:
        """Each option by itself: right for every architecture, and slow."""
        scores: Scores = defaultdict(list)
        for item in batch.items:
            for option in item.options:
                ids = torch.tensor([item.prompt + option[:-1]], device=self.device)
                logits = self.run(ids, None, keep=len(option))[0]
                part = _gather(logits, [(item.key, list(range(len(option))), option)])
                scores[item.key] += part[item.key]
        return scores

    def _tree_agrees(self) -> bool:
        """Compare a small tree with plain passes: an architecture may ignore the mask."""
        vocabulary = self._model.config.get_text_config().vocab_size
        ids = torch.arange(24).mul(7919).remainder(vocabulary).tolist()
        items = tuple(
            PromptItem(
                key, (*ids[:8], *ids[8 + 4 * key : 12 + 4 * key]), ((ids[20], ids[21]), (ids[22],))
            )
            for key in range(2)
        )
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 0.2
        batch = Batch(6, items)
        try:
            with torch.inference_mode():
                trees, apart = self._score_tree(batch), self._score_apart(batch)
        except (TypeError, ValueError, RuntimeError, AttributeError):
            return False
        return all(
            abs(a - b) <= tolerance
            for key in trees
            for (a, _), (b, _) in zip(trees[key], apart[key], strict=True)
        )


def _gather(logits: torch.Tensor, reads: list[tuple[int, list[int], Tokens]]) -> Scores:
    """Sum the targets' log-probabilities; `logits` is [positions, vocabulary]."""
    # A slice at a time: a copy in float32 of all rows at once would double the peak.
    sums = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, 64)])
    best = logits.argmax(-1)
    rows = torch.tensor([row for _, nodes, _ in reads for row in nodes], device=logits.device)
    targets = torch.tensor([t for _, _, ts in reads for t in ts], device=logits.device)
    values = (logits[rows, targets].float() - sums[rows]).double().tolist()
    greedy = (best[rows] == targets).tolist()
    scores: Scores = defaultdict(list)
    start = 0
    for key, nodes, _ in reads:
        stop = start + len(nodes)
        scores[key].append((sum(values[start:stop]), all(greedy[start:stop])))
        start = stop
    return scores


def _ancestors(tree: TokenTree, prefix: int) -> np.ndarray:
    """Attention mask [nodes, prefix + nodes]: a node sees the prefix, its ancestors and itself."""
    size = len(tree.tokens)
    seen = np.zeros((size, prefix + size), dtype=bool)
    seen[:, :prefix] = True
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            seen[node] = seen[parent]
        seen[node, prefix + node] = True
    return seen


def _may_share(model: Any) -> bool:
    """Whether every layer attends to all earlier tokens, through a mask that can be set."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    stateful = bool(getattr(model, "_is_stateful", False))
    return kinds == {"full_attention"} and not stateful
