"""Several LoRA adapters in one pass, for scoring.

PEFT keeps the adapters of a layer apart, and has one of them active or none. Here each layer's
matrices are put into two, of which PEFT's become views, so no number is held twice. For the length
of a pass PEFT's layers compute the base, and a hook on each adds every token's own adapter.

The A matrices of a layer stand one below the other, (R, in), the B matrices side by side, kept
transposed, (R, out), where R is the sum of the ranks. A token's row of the mask, (R,), holds its
adapter's scale at that adapter's ranks and 0 elsewhere:

    y = W x + B (mask ∘ (A x))

That is exactly what each adapter alone would give, and it takes the same operations whatever the
number of adapters; their ranks add up in the two small products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from typing import Any

import torch
from peft.tuners.lora.layer import Linear, LoraLayer
from torch import nn

from domainlift.errors import BenchError
from engines.local.plain_lora import lora_extension

#: On a processor, with so many tokens per adapter, small products of its own ranks are faster than
#: one of all ranks.
_OWN_TOKENS = 64
#: The index of tokens that go through the base model alone: the last row of a table picks it.
_BASE = -1

_Hook = Callable[[Any, tuple[Any, ...], torch.Tensor], torch.Tensor]


class UnexpectedShape(BenchError):
    """A layer gets its tokens in another shape, so that their adapters are not known."""


@dataclass(frozen=True)
class _RankLayout:
    """Which ranks of one layer belong to which adapter: (rank, scale) by adapter's index."""

    parts: tuple[tuple[int, float], ...]

    def ranks(self, adapter: int) -> slice:
        """Where an adapter's ranks stand; empty where it leaves the layer alone."""
        starts = [0, *accumulate(rank for rank, _ in self.parts)]
        return slice(starts[adapter], starts[adapter + 1])

    def table(self) -> list[list[float]]:
        """A row of the mask for each adapter, and one of zeros for the base model."""
        total = sum(rank for rank, _ in self.parts)
        rows = []
        for adapter, (rank, scale) in enumerate(self.parts):
            start = self.ranks(adapter).start
            rows.append([0.0] * start + [scale] * rank + [0.0] * (total - start - rank))
        return [*rows, [0.0] * total]


#: The mask (rows, tokens, R) of a layout, in a type.
_Mask = Callable[[_RankLayout, torch.dtype], torch.Tensor]


@dataclass(frozen=True)
class _StackedLayer:
    """A linear layer with the matrices of all adapters: a (R, in), b (R, out)."""

    module: Any
    layout: _RankLayout
    a: torch.Tensor
    b: torch.Tensor


@dataclass(frozen=True)
class _Piece:
    """Neighbouring tokens of one adapter."""

    adapter: int
    tokens: slice


class BatchedLora:
    """Adapters by name in the layers of one model, for passes that need several of them."""

    def __init__(self, wrapped: Any, names: Sequence[str]) -> None:
        """`wrapped` is PEFT's handle, and each of the adapters is `plain` there."""
        self._names = tuple(names)
        self._layers = [
            _stacked(layer, self._names)
            for layer in wrapped.modules()
            if type(layer) is Linear and any(name in layer.r for name in self._names)
        ]

    @contextmanager
    def adapters_per_token(self, names: Sequence[str | None], rows: int = 1) -> Iterator[None]:
        """Let each token of the rows, one after another, go through its adapter.

        PEFT has none active meanwhile. Raises UnexpectedShape in the pass where a layer gets its
        tokens in another shape.
        """
        place: dict[str | None, int] = {name: number for number, name in enumerate(self._names)}
        place[None] = _BASE
        index = [place[name] for name in names]
        pieces = _pieces(index)
        first = min((piece.adapter for piece in pieces), default=0)
        last = max((piece.adapter for piece in pieces), default=0) + 1
        device = self._layers[0].a.device
        own = device.type == "cpu" and len(index) >= _OWN_TOKENS * len(pieces)
        shifted = torch.tensor([i if i == _BASE else i - first for i in index], device=device)
        shape = (rows, len(index) // rows)

        @cache  # once for all layers of a layout
        def mask(layout: _RankLayout, dtype: torch.dtype) -> torch.Tensor:
            table = torch.tensor(layout.table(), dtype=dtype, device=device)
            return table[shifted.view(shape)]

        with ExitStack() as stack:
            for layer in self._layers:
                hook = (
                    _by_pieces(layer, pieces) if own else _by_mask(layer, mask, slice(first, last))
                )
                handle = layer.module.register_forward_hook(_checked(hook, shape))
                stack.callback(handle.remove)
            yield


def is_plain_lora(wrapped: Any, name: str) -> bool:
    """Whether an adapter is LoRA on linear layers and nothing else, as `BatchedLora` needs."""
    if lora_extension(vars(wrapped.peft_config[name])) is not None:
        return False
    layers = [m for m in wrapped.modules() if isinstance(m, LoraLayer) and name in m.r]
    # The head sees only those tokens whose logits are read.
    head = wrapped.get_base_model().get_output_embeddings()
    return bool(layers) and all(_plain(each, name) and each is not head for each in layers)


def _plain(layer: Any, name: str) -> bool:
    return (
        type(layer) is Linear
        and type(layer.get_base_layer()) is nn.Linear
        and name not in layer.lora_variant
        and not layer.merged
    )


def _stacked(layer: Any, names: Sequence[str]) -> _StackedLayer:
    """Copy all adapters' matrices of a layer into two, and make PEFT's views of them."""
    here = [name for name in names if name in layer.r]
    layout = _RankLayout(
        tuple((layer.r[n], float(layer.scaling[n])) if n in here else (0, 0.0) for n in names)
    )
    with torch.inference_mode(False), torch.no_grad():
        a = torch.cat([layer.lora_A[name].weight.detach() for name in here])
        b = torch.cat([layer.lora_B[name].weight.detach().T for name in here])
        for name in here:
            ranks = layout.ranks(names.index(name))
            layer.lora_A[name].weight.data = a[ranks]
            layer.lora_B[name].weight.data = b[ranks].T
    return _StackedLayer(layer, layout, a, b)


def _pieces(index: Sequence[int]) -> list[_Piece]:
    """The runs of tokens of one adapter, without those of the base model."""
    found, start = [], 0
    for adapter, run in groupby(index):
        stop = start + len(list(run))
        if adapter != _BASE:
            found.append(_Piece(adapter, slice(start, stop)))
        start = stop
    return found


def _checked(hook: _Hook, shape: tuple[int, int]) -> _Hook:
    def checked(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if args[0].shape[:-1] != shape:
            raise UnexpectedShape("a layer with adapters sees other tokens than the model")
        return hook(module, args, output)

    return checked


def _by_mask(layer: _StackedLayer, mask: _Mask, adapters: slice) -> _Hook:
    """All tokens times the ranks of these adapters; the mask leaves each its own."""
    part = _RankLayout(layer.layout.parts[adapters])
    start = layer.layout.ranks(adapters.start).start
    ranks = slice(start, layer.layout.ranks(adapters.stop - 1).stop)
    a, b = layer.a[ranks], layer.b[ranks]

    def add(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if len(a) == 0:
            return output
        inner = nn.functional.linear(args[0].to(a.dtype), a)
        return _plus(output, inner.mul_(mask(part, a.dtype)), b)

    return add


def _by_pieces(layer: _StackedLayer, pieces: Sequence[_Piece]) -> _Hook:
    """Each adapter's tokens times its own ranks."""
    parts = [
        (piece.tokens, layer.a[ranks], layer.b[ranks], layer.layout.parts[piece.adapter][1])
        for piece in pieces
        for ranks in (layer.layout.ranks(piece.adapter),)
        if ranks.stop > ranks.start
    ]

    def add(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        given, out = args[0].flatten(0, 1), output.flatten(0, 1)
        for tokens, a, b, scale in parts:
            inner = nn.functional.linear(given[tokens].to(a.dtype), a)
            out[tokens] = _plus(out[tokens], inner.mul_(scale), b)
        return out.view(output.shape)

    return add


def _plus(output: torch.Tensor, inner: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Output + inner b, as PEFT adds: in the adapter's type, then in the output's."""
    if output.dtype != b.dtype:
        return (output + inner @ b).to(output.dtype)
    # In one operation; the layer's output is nobody else's yet.
    output.view(-1, len(b[0])).addmm_(inner.flatten(0, -2), b)
    return output
