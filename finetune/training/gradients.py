"""Gradient of one optimiser step, accumulated over as many packs as memory requires."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from domainlift.errors import BenchError
from finetune.adapters.methods import recompute
from finetune.distributed.process_group import ProcessGroup
from finetune.memory.estimate import dummy_rows, return_freed
from finetune.training.attention import keeps_apart, rows_apart
from finetune.training.base_distillation import BaseDistillation
from finetune.training.loss import answer_losses
from finetune.training.packing import Pack, PackLimits, best_fit, pack_rows, pad_rows
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded

#: What torch says elsewhere than on CUDA; it is a RuntimeError like many others.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
#: A row that a process computes for nothing while others have one more pack.
_NOTHING = dummy_rows([(2, 1)])
_SMALLER = (
    "repeat the command with `--set micro_batch=N`, N smaller, or `--set checkpointing=true`: it "
    "goes on from the last checkpoint"
)
_ADVICE = "set `max_tokens` or `rank` lower, `dtype: bfloat16`, or take a smaller model"


class GradientWorker:
    """Computes gradients; `limits` and `recomputes` change when memory runs out."""

    def __init__(
        self,
        live: Any,
        settings: TrainingArguments,
        limits: PackLimits,
        *,
        recomputes: bool,
        half: bool,
        in_step: ProcessGroup = ProcessGroup(),
    ) -> None:
        """`live` is a model with its adapter; `half` autocasts its passes to bfloat16.

        Those of `in_step` make equally many passes, as processes must that share a model out.
        """
        self._live = live
        self._settings = settings
        self._in_step = in_step
        self._half = half
        self._apart = keeps_apart(live, settings.max_tokens)
        self._distillation = BaseDistillation(self._base_logits) if settings.anchor else None
        self.change(limits, recomputes)

    def resume(self, limits: PackLimits, recomputes: bool) -> None:
        """Resume with the limits of a checkpoint.

        With several processes these are capped by the limits planned now, since packs cannot be
        split later and the devices may have become smaller.
        """
        if self._in_step.size > 1:
            limits = replace(limits, tokens=min(limits.tokens, self.limits.tokens))
            recomputes = recomputes or self.recomputes
        self.change(limits, recomputes)

    def change(self, limits: PackLimits, recomputes: bool) -> None:
        """Change the limits of a pack and whether activations are recomputed."""
        self.limits, self.recomputes = limits, recomputes
        return_freed(short=recomputes)
        recompute(self._live, recomputes)

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        device: torch.device = self._live.device
        return device

    def gradients(self, examples: Sequence[Encoded], trained: int) -> float:
        """Make the gradient of the loss in nats, and return that loss.

        It is the sum over these rows' trained tokens, divided by `trained`: the number of all the
        step's, also where other processes have some of them. Where memory runs out the work is
        cut smaller and done again, with the same random numbers; BenchError where one row alone
        is too much, or others are in the middle of the same step.
        """
        while True:
            states = random_states(self.device)
            done = self._tried(examples, trained)
            if not isinstance(done, Exception):
                return float(done)
            if self._in_step.size > 1:  # the others are in the middle of their passes
                raise BenchError(
                    f"memory does not suffice for {self.limits.tokens} tokens at once", _SMALLER
                ) from done
            set_random_states(self.device, states)
            self._shrink(examples, done)

    def _tried(self, examples: Sequence[Encoded], trained: int) -> Any:
        try:
            return self._accumulated(examples, trained)
        except Exception as error:
            if not out_of_memory(error):
                raise
            # Its frames hold on to the very tensors that were too many.
            return error.with_traceback(None)

    def _accumulated(self, examples: Sequence[Encoded], trained: int) -> Any:
        for weight in self._live.parameters():
            weight.grad = None
        total: Any = 0.0
        packs = self._bins(examples)
        with rows_apart(self._live) if self._apart else contextlib.nullcontext():
            self._ask_base(packs)
            spare = self._spare(len(packs))
            for each in packs:
                total = total + self._backward(each, trained)
            for _ in range(spare):
                self._backward_nothing()
        return total

    def _backward_nothing(self) -> None:
        loss: Any = self._losses(self._laid_out(_NOTHING)).sum() * 0
        loss.backward()

    def _ask_base(self, packs: Sequence[Sequence[Encoded]]) -> None:
        """Compute the base's probabilities on the replay rows that lack them."""
        if self._distillation is None:
            return
        new = self._distillation.missing(packs)
        spare = self._spare(len(new))
        for each in new:
            self._distillation.compute(each)
        for _ in range(spare):
            self._base_logits(_NOTHING)

    def _spare(self, passes: int) -> int:
        """How many more passes another process makes; collective, called before them."""
        return self._in_step.all_reduce_max(passes, self.device) - passes

    def _backward(self, examples: Sequence[Encoded], trained: int) -> Any:
        """One pack, forward and backward; what it adds to the loss."""
        loss: Any = self._losses(self._pack(examples)).sum() / trained
        loss.backward()
        return loss.detach()

    def _losses(self, pack: Pack) -> torch.Tensor:
        return answer_losses(self._logits(pack), pack.targets, pack.soft_targets)

    def _logits(self, pack: Pack) -> torch.Tensor:
        """The model's logits at the trained positions, [positions, vocabulary]."""
        with self._autocast():
            output = self._live(
                input_ids=pack.ids,
                use_cache=False,
                logits_to_keep=pack.logit_positions,
                **pack.extra,
            )
        logits: torch.Tensor = output.logits.flatten(0, -2)
        return logits

    def _pack(self, examples: Sequence[Encoded]) -> Pack:
        pack = self._laid_out(examples)
        return pack if self._distillation is None else self._distillation.soften(pack, examples)

    def _laid_out(self, examples: Sequence[Encoded]) -> Pack:
        if self._apart:
            return pack_rows(examples, self.device)
        return pad_rows(examples, self.device)

    def _base_logits(self, examples: Sequence[Encoded]) -> torch.Tensor:
        """The base model's logits at the trained positions of these rows."""
        with torch.no_grad(), self._live.disable_adapter():
            return self._logits(self._laid_out(examples))

    def _autocast(self) -> Any:
        """Autocast to bfloat16, where passes are.

        A sharded model caches no cast copies of all weights for the length of a pass.
        """
        keeps = self._in_step.size == 1
        kind = self.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self._half, cache_enabled=keeps)

    def _bins(self, examples: Sequence[Encoded]) -> list[list[Encoded]]:
        return best_fit(examples, self.limits, not self._apart)

    def _shrink(self, examples: Sequence[Encoded], error: Exception) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        packs = self._bins(examples)
        if len(packs) < len(examples):
            largest = max(len(each) * len(each[0].ids) for each in packs)
            fewer = PackLimits(min(self.limits.tokens, largest), self.limits.trained)
            self.limits = fewer.halved()
        elif self._settings.checkpointing is None and not self.recomputes:
            self.change(self.limits, True)
        else:
            longest = max(examples, key=lambda example: len(example.ids))
            raise BenchError(
                f"memory does not suffice for one row of {len(longest.ids)} tokens "
                f"(`{longest.row.id}`)",
                _ADVICE,
            ) from error


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an out-of-memory error into BenchError where no work can be split further."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        what = "memory does not suffice for the optimiser or the validation"
        raise BenchError(what, _ADVICE) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def random_states(device: Any) -> dict[str, torch.Tensor]:
    """States of torch's random generators, for `set_random_states`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(device: Any, states: dict[str, torch.Tensor]) -> None:
    """Restore the states of torch's random generators."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


@contextlib.contextmanager
def eval_mode(live: Any) -> Iterator[Any]:
    """The model in eval mode without gradients; the random states are restored afterwards."""
    states = random_states(live.device)
    live.eval()
    try:
        with torch.no_grad():
            yield live
    finally:
        live.train()
        set_random_states(live.device, states)
