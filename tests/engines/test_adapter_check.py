"""An adapter that changes nothing is found out before it is served."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.adapter_check import changes_logits
from engines.base import Prompt
from engines.streaming import ReplyDelta, Sampling, TokenLogprob

torch = pytest.importorskip("torch")
pytest.importorskip("peft")


def test_adapters_of_this_process(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from engines.local.engine import TransformersEngine
    from tests.helpers.random_models import make_adapter, make_base

    base = make_base(tmp_path / "model")
    engine = TransformersEngine.load(str(base), device="cpu")
    for name in ("works", "zero"):
        make_adapter(tmp_path / name, base)
    weights = tmp_path / "zero" / "adapter_model.safetensors"
    zeros = {n: t * ("lora_A" in n) for n, t in load_file(weights).items()}
    save_file(zeros, weights, {"format": "pt"})
    for name in ("works", "zero"):
        engine.add_adapter(name, tmp_path / name)
    assert changes_logits(engine, "works")
    assert changes_logits(engine, "zero") is False
    list(engine._adapters.groups([None, "works", "zero"]))  # from now on in passes of several
    assert changes_logits(engine, "works")
    assert changes_logits(engine, "zero") is False
    engine.close()


class Server:
    """Says a log-probability for each adapter, the base model's in turn."""

    info = SimpleNamespace(has_chat_template=True)

    def __init__(self, base: list[float | None], adapted: float | None) -> None:
        self._base, self._adapted = [0.0, *base], adapted

    def stream(self, prompt: Prompt, _: Sampling) -> Generator[ReplyDelta, None, None]:
        value = self._base.pop(0) if prompt.adapter is None else self._adapted
        tokens = () if value is None else (TokenLogprob("a", b"a", value),)
        yield ReplyDelta("a", tokens=tokens, finish="stop")


@pytest.mark.parametrize(
    ("base", "adapted", "changes"),
    [
        ([-1.0, -1.0], -1.0, False),
        ([-1.0, -1.0], -1.001, True),
        ([-1.0, -1.01], -1.005, False),
        ([-1.0, -1.01], -1.5, True),
        ([None, None], None, None),
    ],
)
def test_servers_whose_numbers_waver(base: Any, adapted: Any, changes: bool | None) -> None:
    engine: Any = Server(base, adapted)
    assert changes_logits(engine, "mine") is changes
