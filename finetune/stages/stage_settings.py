"""Settings of preference and reward stages, with a default and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

from domainlift.errors import Misuse, NoSuch

SFT = "sft"
#: The stage that makes a reward model, and the reward that is its score.
REWARD_MODEL, BY_MODEL = "reward", "model"
ORPO = "orpo"
PREFERENCE, REINFORCEMENT = ("dpo", ORPO), ("rloo", "grpo")
STAGES = (SFT, *PREFERENCE, REWARD_MODEL, *REINFORCEMENT)
_AT_ONCE = 8
_BETA = {"dpo": 0.1, ORPO: 0.1, REWARD_MODEL: 0.0, "rloo": 0.05, "grpo": 0.0}


@dataclass(frozen=True)
class StageSettings:
    """The settings of one stage after `sft`.

    learning_rate   None: a tenth of that of `sft` at the model's size, since a stage goes on from
                    weights that are good already, but for orpo, whose loss is that of `sft` and a
                    term more, and reward, which begins anew. TRL's 1e-6 is for training all
                    weights.
    steps, epochs   `steps`, where given, wins. Else a preference stage passes `epochs` times over
                    the pairs, and a reward stage takes 100 steps.
    batch           pairs, or replies, per step; `micro_batch` of them at once (None: at most 8,
                    since logits of 32 pairs took 13 GB with a model of 135 M parameters).
    beta            how much leaving the reference costs. None: 0.1 for dpo, 0.05 for rloo, 0 for
                    grpo, as TRL has them. For orpo, which has no reference, the weight of the
                    odds ratio beside the likelihood of the better side; None: 0.1.
    reward          what a reply is judged by: exact, choice, countdown, tests,
                    `FILE.py:FUNCTION`, or model: the score that the stage `reward` learned.
    format_weight   what the form counts beside being right. Small, as TinyZero has it: a model that
                    is paid for the form alone learns the form alone.
    generations     replies to each prompt, compared with one another.
    reply_tokens    of a reply at most; `temperature` of their sampling.
    """

    learning_rate: float | None = None
    steps: int | None = None
    epochs: float = 1.0
    batch: int = 32
    micro_batch: int | None = None
    beta: float | None = None
    reward: str = ""
    format_weight: float = 0.1
    generations: int = 8
    reply_tokens: int = 128
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        for name in ("learning_rate", "epochs", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise Misuse(f"`{name}` is {value}, which is not over 0")
        for name in ("steps", "batch", "micro_batch", "reply_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Misuse(f"`{name}` is {value}, which is not 1 or more")
        if self.generations < 2:
            raise Misuse("`generations` is under 2: replies are compared with one another")
        if self.batch % (self.micro_batch or self.batch):
            raise Misuse(f"`batch` {self.batch} is no multiple of `micro_batch` {self.micro_batch}")

    @property
    def at_once(self) -> int:
        """Pairs, or replies, that go through the model at once: a divisor of the batch."""
        if self.micro_batch is not None:
            return self.micro_batch
        return max(n for n in range(1, _AT_ONCE + 1) if not self.batch % n)

    def beta_of(self, stage: str) -> float:
        """Beta, chosen or by default."""
        return _BETA[stage] if self.beta is None else self.beta

    def has_reference(self, stage: str) -> bool:
        """Whether the stage is held to the weights that it starts from."""
        return stage != ORPO and bool(self.beta_of(stage))


def check_stages(stages: tuple[str, ...]) -> None:
    """Raise Misuse where stages cannot follow each other so."""
    for stage in stages:
        if stage not in STAGES:
            raise NoSuch("stage", stage, STAGES)
    if not stages or SFT in stages[1:]:
        raise Misuse("`sft` starts from the base model, so it can only be the first stage")
    if set(stages) == {REWARD_MODEL}:
        raise Misuse("a reward model answers nothing", "`--stages sft,reward,rloo` makes use of it")
    if len(set(stages)) < len(stages):
        raise Misuse("a stage stands twice in `stages`", "each has one checkpoint of its name")
