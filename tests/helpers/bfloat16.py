"""Whether torch computes in bfloat16 here."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention


def _attends() -> bool:
    """Whether it has attention in bfloat16.

    With ATEN_CPU_CAPABILITY below what the processor has, torch may choose a kernel by the one and
    lack an instruction by the other.
    """
    some = torch.zeros(1, 1, 64, 32, dtype=torch.bfloat16)
    try:
        scaled_dot_product_attention(some, some, some)
    except RuntimeError:
        return False
    return True


needs_bfloat16 = pytest.mark.skipif(
    not _attends(), reason="this torch has no attention in bfloat16 here"
)
