"""Tolerances of numeric comparisons, derived from the arithmetic that is compared.

The same sum in another order, which is what another batch, another packing, another number of
threads or another processor's instructions amount to, is the same number but for its rounding.
The widths here are multiples of that rounding. What a fault does is orders of magnitude larger;
`tests/finetune/test_tolerance.py` shows by how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: The distance from 1 to the next larger number.
EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7}
#: Rounding of a pass through a small model, in units in the last place of its largest number. A
#: sum of n products in another order differs by about sqrt(n) units; the models here add up some
#: fifteen products of at most a hundred terms on the way to a logit: about 32 units. In 16 bits
#: products are added up in 32, and only the fifteen results are rounded: about 4.
PASS_ULPS = {"float32": 32, "bfloat16": 4}
#: The part of the learning rate by which the steps of two equal trainings differ, typically.
TYPICAL_STEP = 0.01
#: The part of the learning rate by which those of a single weight may differ.
WORST_STEP = 0.25


def ulp(magnitude: float, dtype: str = "float32") -> float:
    """One unit in the last place of a number of this magnitude."""
    return EPSILON[dtype] * magnitude


def rounding(values: Tensor | Iterable[float], dtype: str = "float32") -> float:
    """Absolute tolerance of numbers that come out of a forward pass.

    Numbers of one tensor share sums: a small one among large ones is what large ones left over,
    so all of them have the rounding of the largest.
    """
    return PASS_ULPS[dtype] * ulp(_largest(values), dtype)


def gradient_tolerance(gradient: Tensor | Iterable[float], dtype: str = "float32") -> float:
    """Absolute tolerance of a gradient of one weight.

    It comes out of a pass forth and one back, which has two products for each of the former, and
    is what the parts of all positions left over: four times the rounding of one pass.
    """
    return 4 * rounding(gradient, dtype)


def logprob_tolerance(logprobs: Iterable[float], dtype: str = "float32") -> float:
    """Absolute tolerance of log-probabilities of the options of a question.

    A token's is a logit less the logarithm of a sum of exponentials, both of the magnitude of the
    logits; an option's is the sum of its tokens'. The magnitude of the logits is not known here:
    the largest of the log-probabilities stands for it, and 1 where all are smaller.
    """
    return rounding([1.0, *logprobs], dtype)


def loss_tolerance(losses: Iterable[float], steps: int = 0, dtype: str = "float32") -> float:
    """Absolute tolerance of the losses of a training after so many steps.

    A loss is a mean of log-probabilities. With each step the weights that it comes from have
    moved apart by a rounding more.
    """
    return rounding(losses, dtype) * (1 + steps)


def cosine_tolerance(dimensions: int) -> float:
    """Absolute tolerance of the inner product of two float32 vectors of unit length.

    Each of its terms is rounded once, and the sum after each of them; the terms' magnitudes add
    up to 1 at most.
    """
    return ulp(1.0) * dimensions


def assert_same_weights(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, steps: int, learning_rate: float
) -> None:
    """Fail unless two trainings with Adam ended with the same weights, but for rounding.

    Adam divides a gradient's mean by the root of its mean square, so a step has the size of the
    learning rate however small the gradient is. Where the parts of a gradient cancel each other,
    what is left is rounding, and two equal trainings step there in different directions: by up to
    twice the learning rate. Such weights are few. Hence two bounds on each tensor: the root mean
    square of the differences, which a fault in a thousandth of a tensor's weights exceeds, and
    the largest, which a single weight exceeds that misses a step or has one too many.
    """
    assert found.keys() == wanted.keys()
    for name, weight in found.items():
        difference = (weight.float() - wanted[name].float()).abs()
        floor = ulp(_largest(wanted[name])) * steps
        typical = float(difference.square().mean().sqrt())
        assert typical <= TYPICAL_STEP * learning_rate + floor, (name, typical)
        assert float(difference.max()) <= WORST_STEP * learning_rate + floor, name


def _largest(values: Tensor | Iterable[float]) -> float:
    if isinstance(values, Iterable) and not hasattr(values, "abs"):
        return max(map(abs, values), default=0.0)
    return float(values.detach().abs().max())
