"""One training under way: its steps, its validations, and what it keeps to go on from."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from domainlift.errors import Misuse
from domainlift.files import disk_errors, write_json
from finetune import checkpoints
from finetune.board import Board
from finetune.diverging import check
from finetune.encoding import Encoded, truncated
from finetune.memory import peak_bytes, plan, sizes
from finetune.methods import attach, detach, fingerprint, recompute, trainable
from finetune.outcome import Notify, Progress, Trained
from finetune.packing import Limits, most_trained
from finetune.parallel import Team
from finetune.schedule import chosen, rate_at
from finetune.settings import Training
from finetune.steps import Worker, random_states, resting, set_random_states
from finetune.watching import Validate, Watch

CURVES = "curves.json"


@dataclass
class State:
    """What a checkpoint holds beside tensors; JSON."""

    step: int = 0
    tokens: int = 0
    working: float = 0.0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)


class Run:
    """One training under way."""

    def __init__(
        self,
        examples: Sequence[Encoded],
        model: Any,
        settings: Training,
        folder: Path,
        team: Team = Team(),
    ) -> None:
        import torch

        self.examples = examples
        self.settings = settings
        self.folder = folder
        self.steps = settings.total_steps(len(examples))
        self.team = team
        self.state = State()
        self.board: Board | None = None
        self._peak = settings.rate(model.config.get_text_config().hidden_size)
        self._dtype = model.dtype
        self._model = fingerprint(model)
        limits, recomputes = self._plan(model)
        self.live = attach(model, settings).train()
        try:
            self.weights = trainable(self.live)
            self.optimiser = torch.optim.AdamW(
                self.weights.values(), weight_decay=settings.weight_decay, fused=True
            )
            half = settings.dtype == "bfloat16" or (
                settings.dtype == "auto" and self._dtype == torch.bfloat16
            )
            self.worker = Worker(self.live, settings, limits, recomputes=recomputes, half=half)
        except BaseException:
            self.close()
            raise

    def resume(self) -> None:
        """Go to the last checkpoint, where one is; Misuse where it is of another training."""
        found = checkpoints.last(self.folder)
        if found is None:
            return
        self._check(found.state.get("training", {}))
        try:
            self._take(found)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise checkpoints.damaged(self.folder, error) from error

    def _take(self, found: checkpoints.Checkpoint) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(found.weights[name])
        for key, value in found.optimiser.items():
            kind, _, name = key.partition(" ")
            if name in self.weights:  # one that has had no gradient yet has no moments
                weight = self.weights[name]
                self.optimiser.state[weight][kind] = value.to(weight.device)
        random = {k.split()[1]: v for k, v in found.optimiser.items() if k.startswith("random ")}
        set_random_states(self.live.device, random)
        self.worker.change(Limits(**found.state["limits"]), found.state["recomputes"])
        state = dict(found.state["state"])
        watch = dict(state.pop("watch"))
        self.state = State(**state, watch=Watch(**{**watch, "fallen": tuple(watch["fallen"])}))

    def go(self, validate: Validate | None, notify: Notify | None) -> None:
        """Take the steps that are left."""
        if self.team.leads:
            self.board = Board(self.folder / "tensorboard", self.state.step)
        begun = time.perf_counter() - self.state.seconds
        while self.state.step < self.steps and not self._stopped():
            self._step()
            self._report(notify if self.team.leads else None)
            if validate is not None and self._due(self.settings.eval_every):
                self._validate(validate)
            self.state.seconds = time.perf_counter() - begun
            if self.team.leads and (self._due(self.settings.save_every) or self._stopped()):
                self._store()

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write the best weights as their library does, and the curves."""
        if self.team.leads:
            self._to_best()
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                if self.settings.method == "full":
                    self.live.to(self._dtype)
                    tokenizer.save_pretrained(str(folder))
                self.live.save_pretrained(str(folder))
            write_json(folder / CURVES, self._curves())
        self.team.agree("saved", self.live.device)

    def close(self) -> None:
        """Take the adapter off and end the log."""
        if self.board is not None:
            self.board.close()
        recompute(self.live, on=False)
        detach(self.live).eval()

    def trained(self) -> Trained:
        """The outcome."""
        state = self.state
        return Trained(
            steps=state.step,
            tokens=state.tokens,
            tokens_per_second=state.tokens / max(state.working, 1e-9),
            peak_bytes=peak_bytes(self.live.device),
            seconds=state.seconds,
            losses=tuple(state.losses),
            best_step=state.watch.best_step or state.step,
            stopped=state.watch.stopped or "done",
            fallen=state.watch.fallen,
            validations=tuple(state.validations),
            truncated=tuple(truncated(self.examples)),
            micro_batch=self.worker.limits.tokens,
            checkpointing=self.worker.recomputes,
        )

    def _step(self) -> None:
        import torch

        state, settings = self.state, self.settings
        begun = time.perf_counter()
        seed = settings.seed if settings.shuffle else None
        places = chosen(state.step, len(self.examples), settings.batch, seed)
        examples = [self.examples[place] for place in places]
        trained = sum(example.trained for example in examples)
        self.team.seed(settings.seed, state.step)
        loss = self.worker.gradients(self.team.share(examples), trained)
        state.losses.append(self.team.add_up(self.weights.values(), loss))
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), settings.clip)
        check(state.losses, float(norm), [example.row.id for example in examples])
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(state.step, self.steps, settings.warm_up, self._peak)
        self.optimiser.step()
        state.step += 1
        state.tokens += sum(len(example.ids) for example in examples)
        state.working += time.perf_counter() - begun

    def _plan(self, model: Any) -> tuple[Limits, bool]:
        settings, vocabulary = self.settings, model.config.get_text_config().vocab_size
        if settings.micro_batch is not None and settings.checkpointing is not None:
            limits = Limits(settings.micro_batch, most_trained(vocabulary))
            return limits, settings.checkpointing  # nothing is left to measure
        longest = max(len(example.ids) for example in self.examples)
        return plan(sizes(model.config, settings), settings, longest, str(model.device))

    def _due(self, every: int) -> bool:
        """Whether something is done every so many steps, and at the end, unless `every` is 0."""
        return every > 0 and (self.state.step % every == 0 or self.state.step == self.steps)

    def _stopped(self) -> bool:
        return bool(self.state.watch.stopped)

    def _validate(self, validate: Validate) -> None:
        if self.team.leads:
            self._look(validate)
        watch = self.state.watch
        stopped = self.team.agree(watch.stopped, self.live.device)
        self.state.watch = replace(watch, stopped=stopped)

    def _look(self, validate: Validate) -> None:
        state = self.state
        with resting(self.live) as live:
            found = validate(live)
        seen = {"step": state.step, **asdict(found), "fallen": list(found.fallen)}
        state.validations.append(seen)
        state.watch = state.watch.seen(state.step, found, self.settings.patience)
        if state.watch.best_step == state.step:
            checkpoints.save_best(self.folder, state.step, self._tensors())
        self._log({"validation/accuracy": found.accuracy})

    def _report(self, notify: Notify | None) -> None:
        state = self.state
        rate = state.tokens / max(state.working, 1e-9)
        figures = {"train/loss": state.losses[-1], "train/tokens_per_second": rate}
        self._log(figures)
        if notify is not None:
            left = (self.steps - state.step) * state.working / state.step
            notify(Progress(state.step, self.steps, state.losses[-1], rate, left))

    def _to_best(self) -> None:
        import torch

        best = self.state.watch.best_step
        if best and best != self.state.step:
            found = checkpoints.load_best(self.folder, best)
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(found[name])

    def _tensors(self) -> dict[str, Any]:
        return {name: weight.detach().contiguous() for name, weight in self.weights.items()}

    def _store(self) -> None:
        moments = {
            f"{kind} {name}": value
            for name, weight in self.weights.items()
            for kind, value in self.optimiser.state[weight].items()
        }
        random = {f"random {k}": v for k, v in random_states(self.live.device).items()}
        limits = asdict(self.worker.limits)
        state = {
            "training": self._name(),
            "limits": limits,
            "recomputes": self.worker.recomputes,
            "state": asdict(self.state),
        }
        saved = checkpoints.Checkpoint(
            self.state.step, self._tensors(), {**moments, **random}, state
        )
        checkpoints.save(self.folder, saved, self.state.watch.best_step)

    def _log(self, figures: dict[str, float]) -> None:
        if self.board is not None:
            self.board.add(self.state.step, figures)

    def _name(self) -> dict[str, Any]:
        """What makes a training this one and no other."""
        rows = hashlib.sha256()
        for example in self.examples:
            rows.update(f"{example.ids} {example.start}\n".encode())
        # The rate that is used: what stands for None may be another in another version.
        used = {**asdict(self.settings), "learning_rate": self._peak}
        own = {**used, "rows": rows.hexdigest(), "model": self._model}
        return dict(json.loads(json.dumps(own)))

    def _check(self, stored: dict[str, Any]) -> None:
        own = self._name()
        other = sorted(key for key in {*own, *stored} if own.get(key) != stored.get(key))
        if other:
            names = ", ".join(f"`{key}`" for key in other)
            raise Misuse(
                f"the checkpoint in `{self.folder}` is of another training: {names} differ",
                "take the settings of before, or delete the folder to begin anew",
            )

    def _curves(self) -> dict[str, Any]:
        state, settings = self.state, self.settings
        rates = [rate_at(s, self.steps, settings.warm_up, self._peak) for s in range(state.step)]
        return {
            "loss": state.losses,
            "learning_rate": rates,
            "validation": state.validations,
            "best_step": state.watch.best_step or state.step,
        }
