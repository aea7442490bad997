"""Job, options and result of an export."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from engines.local.loading import load_adapter, load_model, model_digest
from engines.registry import source
from finetune.adapters.registry import Adapter
from finetune.export.verify import PROMPTS, Check, VerifiedPrompt, ask_model, compare_model

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ExportOptions:
    """Settings of an export; each target reads those that concern it.

    `stored` is how a GGUF holds weights where no `base_gguf` says it: f32, f16 or q8_0.
    `name` is what the model shall be called in Ollama. `prompts` are what both sides are asked in
    the check.
    """

    stored: str = "f16"
    base_gguf: Path | None = None
    prompts: Sequence[str] = PROMPTS
    name: str = ""


@dataclass(frozen=True)
class ExportResult:
    """Check of the written files, with the next commands and notes for the user.

    `check` is None where nothing is there to check with; `notes` says so then.
    """

    check: Check | None
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ExportJob:
    """An adapter, its base model in 32 bits, and the folders of the export.

    The model changes as a job goes on, from the bare one over the adapted to the merged one.
    `effect` is how far the adapter moves the prompts' log-probabilities, in nats; 0 before `adapt`.
    """

    def __init__(
        self,
        adapter: Adapter,
        base: str,
        options: ExportOptions,
        folder: Path = Path(),
        scratch: Path = Path(),
    ) -> None:
        """Load the base; Misuse where it is served elsewhere or has another digest."""
        self.adapter = adapter
        self.options = options
        self.folder = folder
        self.scratch = scratch
        name = source(base)
        self.model, self.tokenizer = load_model(name, device="cpu", dtype="float32")
        self.base_digest = model_digest(name, self.model)
        _check_base(adapter, base, self.base_digest)
        self.dtype = _stored_dtype(name)
        self.config: Any = self.model.config
        self.effect = 0.0
        self._adapted: Any = None

    def ask_base(self) -> list[VerifiedPrompt]:
        """What the bare model answers; before `adapt`."""
        return ask_model(self.model, self.tokenizer, self.options.prompts)

    def adapt(self) -> list[VerifiedPrompt]:
        """Put the adapter on, and ask the model that was evaluated."""
        self._adapted = load_adapter(self.model, None, "default", self.adapter.folder)
        verified = ask_model(self._adapted, self.tokenizer, self.options.prompts)
        with self._adapted.disable_adapter():
            without = compare_model(verified, self._adapted, self.tokenizer, 0.0)
        self.effect = without.max_abs_delta_logprob
        return verified

    def merge(self) -> Any:
        """Add the adapter to the weights in 32 bits, and return the model; after `adapt`."""
        self.model = self._adapted.merge_and_unload()
        self._adapted = None
        return self.model


def _check_base(adapter: Adapter, base: str, digest: str) -> None:
    try:
        adapter.check_base(base, digest)
    except Misuse as error:
        way_on = f"give the model that it was trained on: `--base {shlex.quote(adapter.card.base)}`"
        raise Misuse(error.what, way_on) from error


def _stored_dtype(source: str) -> torch.dtype:
    """The type in which the base's own files hold its weights."""
    import torch
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(source, trust_remote_code=False).dtype
    return found if isinstance(found, torch.dtype) else torch.float32
