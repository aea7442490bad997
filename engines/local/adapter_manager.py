"""Manager of the LoRA adapters and soft prompts of one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
    """The adapters of one model by name, None being the base model, and the active one."""

    def __init__(self, model: Any, forward: Forward) -> None:
        self._model = model
        self._forward = forward
        # The soft prompt of each adapter; an empty one for adapters of weights.
        self._soft_prompts: dict[Name, SoftPrompt] = {None: SoftPrompt()}
        # Those that change the model's layers, and whether several can do so in one pass.
        self._weights: dict[str, bool] = {}
        self._used: Name = None
        self._wrapped: Any = None
        self._batched: BatchedLora | None = None

    def add(self, name: str, folder: Path) -> None:
        """Load an adapter; Misuse where it does not fit the model, or cannot be scored."""
        self.use(None)
        self._batched = None
        if loading.is_prompts(folder):
            self._soft_prompts[name] = loading.load_soft_prompt(self._model, folder)
            self._weights.pop(name, None)
            return
        self._wrapped = loading.load_adapter(self._model, self._wrapped, name, folder)
        self._soft_prompts[name] = SoftPrompt()
        self._weights[name] = self._forward.shares and _plain(self._wrapped, name)
        self._used = name
        self.use(None)

    def use(self, name: Name) -> None:
        """Activate an adapter and drop the cache, which was computed with another one."""
        if name == self._used:
            return
        self.check([name])
        if name in self._weights:
            self._wrapped.base_model.enable_adapter_layers()
            self._wrapped.set_adapter(name)
        elif self._wrapped is not None:
            self._wrapped.base_model.disable_adapter_layers()
        self._used = name
        self._forward.set_soft_prompt(self._soft_prompts[name])

    @property
    def used(self) -> Name:
        """The active adapter."""
        return self._used

    def soft_prompt(self, name: Name) -> SoftPrompt:
        """What precedes every text of an adapter."""
        return self._soft_prompts[name]

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
            if name not in self._soft_prompts:
                raise Misuse(f"the adapter `{name}` is not loaded")

    def set_soft_prompt(self, soft_prompt: SoftPrompt) -> SoftPrompt:
        """Activate the base model with this soft prompt; return the one that it had."""
        self.use(None)
        before = self._soft_prompts[None]
        self._soft_prompts[None] = soft_prompt
        self._forward.set_soft_prompt(soft_prompt)
        return before

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
        if name is None:
            return not self._soft_prompts[None].length
        return self._weights.get(name, False)

    def _stack(self) -> bool:
        """Stack the adapters' matrices; False where some layer sees its tokens in another shape."""
        if self._batched is not None:
            return True
        from engines.local.batched_lora import BatchedLora, UnexpectedShape

        able = [name for name, plain in self._weights.items() if plain]
        batched = BatchedLora(self._wrapped, able)
        self.use(None)
        try:
            self._try(batched, able)
        except UnexpectedShape:
            self._weights = dict.fromkeys(self._weights, False)
            return False
        self._batched = batched
        return True

    def _try(self, batched: BatchedLora, names: Sequence[str]) -> None:
        import torch

        ids = torch.zeros(1, 2 * len(names), dtype=torch.long, device=self._model.device)
        with torch.inference_mode(), batched.adapters_per_token([*names, *names]):
            self._model(input_ids=ids, use_cache=False, logits_to_keep=1)


def _plain(wrapped: Any, name: str) -> bool:
    from engines.local.batched_lora import is_plain_lora

    return is_plain_lora(wrapped, name)
