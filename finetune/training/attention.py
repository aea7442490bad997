"""Attention over packed rows: several in one sequence, each attending to itself only.

Linear layers, which are nearly all of the work, see no padding. For attention alone the rows are
spread into a padded rectangle, (rows, longest), where the causal kernel needs no mask: right
padding is never seen. No mask of (tokens × tokens) is made, and no kernel beyond torch's own is
needed. Rows of very different lengths go in groups, so that little is padded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

#: The name under which transformers finds this attention.
NAME = "domainlift_rows"
#: A row shorter than this share of its group's longest opens a group of its own.
_SPREAD = 0.6
#: Lengths of the rows by which `keeps_apart` tries a model.
_TRIED = (7, 5, 2)


@dataclass(frozen=True)
class Group:
    """Rows of similar length: positions `start` to `stop` of the sequence.

    `there` says for each place of the rectangle which position stands there (0 in the padding),
    `back` for each position where it stands, `real` is (places, 1) with 0 in the padding.
    """

    start: int
    stop: int
    shape: tuple[int, int]
    there: torch.Tensor
    back: torch.Tensor
    real: torch.Tensor


def groups(lengths: Sequence[int], device: Any = None) -> tuple[Group, ...]:
    """Group rows that lie in this order, the longest first."""
    made, first, start = [], 0, 0
    for index in range(1, len(lengths) + 1):
        if index == len(lengths) or lengths[index] < _SPREAD * lengths[first]:
            made.append(_group(start, lengths[first:index], device))
            start, first = made[-1].stop, index
    return tuple(made)


@contextlib.contextmanager
def rows_apart(model: Any) -> Iterator[None]:
    """Let the model attend within rows, for calls that pass `rows` (from `groups`)."""
    _register()
    configs = _configs(model)
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation_internal = NAME
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


def keeps_apart(model: Any, longest: int) -> bool:
    """Whether rows of up to `longest` tokens, in one sequence, get the logits that they get alone.

    It is tried. Architectures with recurrent state, with an attention of their own or with a
    sliding window that is shorter than a row do not.
    """
    config = model.config.get_text_config()
    if not sees_all(config, longest) or getattr(model, "_is_stateful", False):
        return False
    ids = torch.arange(sum(_TRIED), device=model.device).mul(7919).remainder(config.vocab_size)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _same_as_alone(model, ids) and _leaks_nothing(model, ids)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        return False
    finally:
        model.train(training)


def sees_all(config: Any, longest: int) -> bool:
    """Whether every layer lets a token see all of its row; `config` is that of the text model."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    # Mistral and its kin have a window in every layer, and no list of layers.
    window = getattr(config, "sliding_window", None)
    return window is None or window >= longest


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    rows: tuple[Group, ...] = (),
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within rows; [1, heads, tokens, width] in, [1, tokens, heads, width] out."""
    if not rows or settings.get("softcap") is not None or settings.get("s_aux") is not None:
        raise ValueError("this attention is for rows, without soft caps and sinks")
    parts = []
    for group in rows:
        inside = slice(group.start, group.stop)
        spread = [_spread(x[:, :, inside], group) for x in (query, key, value)]
        mixed = _kernel(spread, dropout, scaling)
        parts.append(_gathered(mixed, group))
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0], None


class _PackedAttention(torch.autograd.Function):
    """Choose rows of a matrix by an index whose inverse is known, so that nothing is scattered."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, index: torch.Tensor, inverse: torch.Tensor, real: Any
    ) -> torch.Tensor:
        ctx.inverse, ctx.real = inverse, real
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        back = grad.index_select(0, ctx.inverse)
        return (back if ctx.real is None else back * ctx.real), None, None, None


def _kernel(qkv: list[torch.Tensor], dropout: float, scale: float | None) -> torch.Tensor:
    # A processor attends three times slower in bfloat16, where rows are short.
    slow = qkv[0].device.type == "cpu" and torch.is_autocast_enabled("cpu")
    query, key, value = (x.float() for x in qkv) if slow else qkv
    shared = query.shape[1] != key.shape[1]
    with torch.autocast("cpu", enabled=False) if slow else contextlib.nullcontext():
        return scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=shared
        )


def _spread(x: torch.Tensor, group: Group) -> torch.Tensor:
    heads, width = x.shape[1], x.shape[3]
    flat = x.transpose(1, 2)[0].flatten(1)
    # The gradient of the padding is nought: nobody sees it and nobody reads it.
    placed = _apply(_PackedAttention, flat, group.there, group.back, None)
    return placed.view(*group.shape, heads, width).transpose(1, 2)


def _gathered(mixed: torch.Tensor, group: Group) -> torch.Tensor:
    heads, width = mixed.shape[1], mixed.shape[3]
    flat = mixed.transpose(1, 2).reshape(-1, heads * width)
    taken = _apply(_PackedAttention, flat, group.back, group.there, group.real.to(flat.dtype))
    return taken.view(1, -1, heads, width)


def _apply(function: Any, *arguments: Any) -> torch.Tensor:
    result: torch.Tensor = function.apply(*arguments)
    return result


def _group(start: int, lengths: Sequence[int], device: Any) -> Group:
    longest, total = max(lengths), sum(lengths)
    back = torch.cat([torch.arange(n) + longest * row for row, n in enumerate(lengths)])
    there = torch.zeros(longest * len(lengths), dtype=torch.long)
    there[back] = torch.arange(total)
    real = torch.zeros(longest * len(lengths), 1)
    real[back] = 1
    shape = (len(lengths), longest)
    parts = (there.to(device), back.to(device), real.to(device))
    return Group(start, start + total, shape, *parts)


def _same_as_alone(model: Any, ids: torch.Tensor) -> bool:
    together = _together(model, ids, _TRIED)
    parts = torch.split(ids, list(_TRIED))
    alone = torch.cat([model(input_ids=part[None]).logits[0] for part in parts])
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.3
    return bool((together - alone).abs().max() <= tolerance)


def _leaks_nothing(model: Any, ids: torch.Tensor) -> bool:
    """Whether rows are the same whatever stands before them: coarse numbers would hide a leak."""
    other = ids.clone()
    other[: _TRIED[0]] = ids[: _TRIED[0]].flip(0)
    one, two = (_together(model, each, _TRIED)[_TRIED[0] :] for each in (ids, other))
    return bool((one - two).abs().max() <= 1e-5 * one.abs().max())


def _together(model: Any, ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    positions = torch.cat([torch.arange(n) for n in lengths]).to(ids.device)
    with rows_apart(model):
        output = model(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            rows=groups(lengths, ids.device),
        )
    logits: torch.Tensor = output.logits[0]
    return logits


def _configs(model: Any) -> list[Any]:
    """The configurations that the model's parts look their attention up in, each once."""
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    return [c for c in configs.values() if hasattr(c, "_attn_implementation_internal")]


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def _register() -> None:
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)
