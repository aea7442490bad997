"""Manager of the adapters of one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from domainlift.errors import Misuse
from engines.local import loading
from engines.local.batched_lora import BatchedLora, UnexpectedShape, is_plain_lora
from engines.local.forward import Forward

Name = str | None


class AdapterManager:
    """The adapters of one model by name, None being the base model, and the active one."""

    def __init__(self, model: Any, forward: Forward) -> None:
        self._model = model
        self._forward = forward
        # The adapters that are loaded, and whether several can compute in one pass.
        self._plain: dict[str, bool] = {}
        self._used: Name = None
        self._wrapped: Any = None
        self._batched: BatchedLora | None = None

    def add(self, name: str, folder: Path) -> None:
        """Load an adapter; Misuse where it does not fit the model, or cannot be scored."""
        self.use(None)
        self._batched = None
        self._wrapped = loading.load_adapter(self._model, self._wrapped, name, folder)
        self._plain[name] = self._forward.shares and is_plain_lora(self._wrapped, name)
        self._used = name
        self.use(None)

    def use(self, name: Name) -> None:
        """Activate an adapter and drop the cache, which was computed with another one."""
        if name == self._used:
            return
        self.check([name])
        if name is not None:
            self._wrapped.base_model.enable_adapter_layers()
            self._wrapped.set_adapter(name)
        elif self._wrapped is not None:
            self._wrapped.base_model.disable_adapter_layers()
        self._used = name
        self._forward.reset()

    @property
    def used(self) -> Name:
        """The active adapter."""
        return self._used

    @contextmanager
    def per_row(self, names: Sequence[Name], width: int) -> Iterator[None]:
        """Compute rows of `width` tokens, each with its adapter, of one group of `groups`."""
        if self._batched is not None and all(map(self._can_share, names)):
            self.use(None)
            per_token = [name for name in names for _ in range(width)]
            adapted = self._batched.adapters_per_token(per_token, len(names))
            with adapted if any(names) else nullcontext():
                yield
        else:
            self.use(*set(names))
            yield

    def check(self, names: Iterable[Name]) -> None:
        """Raise Misuse for an adapter that is not loaded."""
        for name in names:
            if name is not None and name not in self._plain:
                raise Misuse(f"the adapter `{name}` is not loaded")

    def groups(self, names: Iterable[Name]) -> list[list[Name]]:
        """Divide names into those that may share a batch."""
        unique = list(dict.fromkeys(names))
        able = [name for name in unique if self._can_share(name)]
        if len(able) < 2 or not self._stack():
            return [[name] for name in unique]
        return [able, *([name] for name in unique if name not in able)]

    def adapters_per_token(self, names: Sequence[Name]) -> AbstractContextManager[None]:
        """Let each token of the next pass go through its own adapter, of one group of `groups`."""
        if self._batched is None:
            raise Misuse("these adapters cannot share a batch")
        return self._batched.adapters_per_token(names)

    def _can_share(self, name: Name) -> bool:
        return name is None or self._plain.get(name, False)

    def _stack(self) -> bool:
        """Stack the adapters' matrices; False where some layer sees its tokens in another shape."""
        if self._batched is not None:
            return True
        able = [name for name, plain in self._plain.items() if plain]
        batched = BatchedLora(self._wrapped, able)
        self.use(None)
        try:
            self._try(batched, able)
        except UnexpectedShape:
            self._plain = dict.fromkeys(self._plain, False)
            return False
        self._batched = batched
        return True

    def _try(self, batched: BatchedLora, names: Sequence[str]) -> None:
        ids = torch.zeros(1, 2 * len(names), dtype=torch.long, device=self._model.device)
        with torch.inference_mode(), batched.adapters_per_token([*names, *names]):
            self._model(input_ids=ids, use_cache=False, logits_to_keep=1)
