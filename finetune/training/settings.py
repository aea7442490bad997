"""Training arguments: every setting, with a default and the reason for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from domainlift.errors import Misuse, NoSuch
from finetune.training.trackers import tracker_names

METHODS = ("lora", "rslora", "dora", "qlora")
COMPUTE = ("auto", "float32", "bfloat16")
_LEAST, _MOST = 1e-7, 1.0
#: LoRA diverged at 4e-3 on the embedded model.
_HIGHEST = 2e-3


#: Minutes of optimiser steps per domain, where the user names none.
DEFAULT_MINUTES = 30.0


@dataclass(frozen=True)
class TrainingBudget:
    """At most so many seconds of optimiser steps, and so many new rows; None for no bound."""

    seconds: float | None = None
    rows: int | None = None


NO_BUDGET = TrainingBudget()


@dataclass(frozen=True)
class TrainingArguments:
    """All settings of one training; together with the rows and the model they decide the result.

    `micro_batch` and `checkpointing` do not, but for rounding and what dropout draws, and `track`
    not at all: they may change on the way.

    rank, alpha     rank 16 holds far more than some thousands of facts (rank 1 held 3,000 in
                    "knowledge packing", 2502.14502). `alpha` None: twice the rank, and the rank
                    for rslora.
    targets         module names that get LoRA; () for all linear layers but the output, which
                    "LoRA Without Regret" found best at every size.
    dropout         0: what peft's benchmark uses for its best runs.
    learning_rate   None: by the model's size, see `rate`.
    epochs, steps   `steps`, where given, wins. 10 epochs at 1e-3 taught 500 facts in one wording
                    (2502.14502); early stopping ends sooner.
    batch           rows per optimiser step. Small batches suit LoRA ("LoRA Without Regret").
    micro_batch     tokens that go through the model at once; None: as memory allows.
    warm_up         share of the steps in which the rate rises; then it falls along a cosine to a
                    tenth of it.
    clip            the largest norm of the gradient.
    dtype           auto: as the model was loaded.
    checkpointing   compute activations twice instead of keeping them (+44 % work with LoRA); None:
                    only where memory asks for it.
    eval_every      steps between validations; 0 for none. `patience`: how many validations
                    without a new best end the training; 0 for never.
    save_every      steps between checkpoints, which one process also writes every two minutes.
    max_tokens      longer rows lose the beginning of their prompt; `end` adds the token that ends
                    a text to plain rows.
    anchor          replay rows keep the base model's probabilities; False: they are trained on
                    like others (see `base_distillation`).
    shuffle         False keeps the order in which the rows come, in every epoch.
    track           where curves go besides TensorBoard: `mlflow`, `trackio`, or both with a comma.
    """

    method: str = "lora"
    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    learning_rate: float | None = None
    epochs: float = 10
    steps: int | None = None
    batch: int = 16
    micro_batch: int | None = None
    warm_up: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    dtype: str = "auto"
    checkpointing: bool | None = None
    eval_every: int = 50
    patience: int = 4
    save_every: int = 50
    max_tokens: int = 1024
    end: bool = False
    anchor: bool = True
    shuffle: bool = True
    track: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        if self.method not in METHODS:
            raise NoSuch("method", self.method, METHODS)
        if self.dtype not in COMPUTE:
            raise NoSuch("dtype", self.dtype, COMPUTE)
        tracker_names(self.track)
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise Misuse(f"`{name}` is {value}, which is not between {low:g} and {high:g}")

    @property
    def scale(self) -> float:
        """LoRA's alpha, chosen or by default."""
        if self.alpha is not None:
            return self.alpha
        return float(self.rank if self.method == "rslora" else 2 * self.rank)

    def result_settings(self) -> dict[str, Any]:
        """The settings that decide the result."""
        return {key: value for key, value in asdict(self).items() if key not in _EXECUTION}

    def execution_settings(self) -> dict[str, Any]:
        """Settings that change speed, memory and what is shown, not the result."""
        return {key: value for key, value in asdict(self).items() if key in _EXECUTION}

    def rate(self, hidden: int) -> float:
        """The peak learning rate, for a model whose hidden states have `hidden` entries.

        Where none is set: 5e-4 times (2000 / hidden)^0.781, the best rates of Llama models in "LoRA
        Without Regret": 4.9e-4 at 3B, 9.4e-4 at 0.5B, 1.3e-3 for SmolLM2-135M, which learned about
        twice as much in three passes as at 5.5e-4.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        by_size: float = 5e-4 * (2000 / hidden) ** 0.781
        return min(_HIGHEST, by_size)

    def budget(self, minutes: float | None, rows: int | None) -> TrainingBudget:
        """The bounds that the user set; without any, and without `steps`, the default."""
        if minutes is None and rows is None and self.steps is None:
            minutes = DEFAULT_MINUTES
        return TrainingBudget(None if minutes is None else 60 * minutes, rows)

    def total_steps(self, rows: int) -> int:
        """How many optimiser steps there are."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * -(-rows // self.batch)))


_EXECUTION = {"micro_batch", "checkpointing", "track"}
_MANY = 10**9
_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("rank", 1, 4096),
    ("alpha", 1e-6, 1e6),
    ("dropout", 0, 0.9),
    ("learning_rate", _LEAST, _MOST),
    ("epochs", 1e-3, 1e6),
    ("steps", 1, _MANY),
    ("batch", 1, _MANY),
    ("micro_batch", 1, _MANY),
    ("warm_up", 0, 1),
    ("weight_decay", 0, 1),
    ("clip", 1e-6, 1e6),
    ("eval_every", 0, _MANY),
    ("patience", 0, _MANY),
    ("save_every", 1, _MANY),
    ("max_tokens", 2, _MANY),
)
