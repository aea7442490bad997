"""What a loaded model answers with: itself, adapters in its layers, prompts before its texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from engines.local import loading
from engines.local.forward import Forward
from engines.local.soft_prompts import SoftPrompt

if TYPE_CHECKING:
    from engines.local.batched_lora import BatchedLora

Name = str | None


class AdapterManager:
    """The adapters of one model by name, None being the model itself, and which is in use."""

    def __init__(self, model: Any, forward: Forward) -> None:
        self._model = model
        self._forward = forward
        # What each adapter puts before every text.
        self._roots: dict[Name, SoftPrompt] = {None: SoftPrompt()}
        # Those that change the model's layers, and whether several can do so in one pass.
        self._weights: dict[str, bool] = {}
        self._used: Name = None
        self._wrapped: Any = None
        self._mixed: BatchedLora | None = None

    def add(self, name: str, folder: Path) -> None:
        """Load an adapter; Misuse where it does not fit the model, or cannot be scored."""
        self.use(None)
        self._mixed = None
        if loading.is_prompts(folder):
            self._roots[name] = loading.load_soft_prompt(self._model, folder)
            self._weights.pop(name, None)
            return
        self._wrapped = loading.load_adapter(self._model, self._wrapped, name, folder)
        self._roots[name] = SoftPrompt()
        self._weights[name] = self._forward.shares and _plain(self._wrapped, name)
        self._used = name
        self.use(None)

    def use(self, name: Name) -> None:
        """Answer with this one from now on; what is cached was computed with another one."""
        if name == self._used:
            return
        self.check([name])
        if name in self._weights:
            self._wrapped.base_model.enable_adapter_layers()
            self._wrapped.set_adapter(name)
        elif self._wrapped is not None:
            self._wrapped.base_model.disable_adapter_layers()
        self._used = name
        self._forward.set_soft_prompt(self._roots[name])

    def check(self, names: Iterable[Name]) -> None:
        """Raise Misuse for one that is not loaded."""
        for name in names:
            if name not in self._roots:
                raise Misuse(f"the adapter `{name}` is not loaded")

    def set_soft_prompt(self, root: SoftPrompt) -> SoftPrompt:
        """Let the model itself, in use from now on, have this root; return the one it had."""
        self.use(None)
        before = self._roots[None]
        self._roots[None] = root
        self._forward.set_soft_prompt(root)
        return before

    def groups(self, names: Iterable[Name]) -> list[list[Name]]:
        """Divide names into those that may share a batch."""
        asked = list(dict.fromkeys(names))
        able = [name for name in asked if self._mixes(name)]
        if len(able) < 2 or not self._stack():
            return [[name] for name in asked]
        return [able, *([name] for name in asked if name not in able)]

    def adapters_per_token(self, names: Sequence[Name]) -> AbstractContextManager[None]:
        """Let each token of the next pass go through its own adapter, of one group of `groups`."""
        if self._mixed is None:
            raise Misuse("these adapters cannot share a batch")
        return self._mixed.adapters_per_token(names)

    def _mixes(self, name: Name) -> bool:
        if name is None:
            return not self._roots[None].length
        return self._weights.get(name, False)

    def _stack(self) -> bool:
        """Put the adapters' matrices together; whether all layers see tokens as they came in."""
        if self._mixed is not None:
            return True
        from engines.local.batched_lora import BatchedLora, UnexpectedShape

        able = [name for name, plain in self._weights.items() if plain]
        mixed = BatchedLora(self._wrapped, able)
        self.use(None)
        try:
            self._try(mixed, able)
        except UnexpectedShape:
            self._weights = dict.fromkeys(self._weights, False)
            return False
        self._mixed = mixed
        return True

    def _try(self, mixed: BatchedLora, names: Sequence[str]) -> None:
        import torch

        ids = torch.zeros(1, 2 * len(names), dtype=torch.long, device=self._model.device)
        with torch.inference_mode(), mixed.adapters_per_token([*names, *names]):
            self._model(input_ids=ids, use_cache=False, logits_to_keep=1)


def _plain(wrapped: Any, name: str) -> bool:
    from engines.local.batched_lora import is_plain_lora

    return is_plain_lora(wrapped, name)
