"""Grounding check: whether log-probabilities show that a piece says what its passage says.

They are those of the model that wrote it. A piece must be likelier after the passage than after
none, after another one, and after the same words in another order; and a text must be likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.prompts import passage_block
from domainlift.sampling import hash_order
from domainlift.types import Passage
from finetune.data.cleaning import open_layout
from finetune.synthetic.prompts import KINDS, Excerpt, GeneratedText, title_of

#: The settings in which a piece is read: after its passage, after none, after another one, and
#: after the words of its passage in another order, which say nothing of what belongs to what.
OWN, NONE, OTHER, SHUFFLED = SETTINGS = ("own", "none", "other", "shuffled")


@dataclass(frozen=True)
class GroundingLimits:
    """Thresholds of a grounded piece, fitted on labelled ones (docs/training-data.md).

    In nats per token: `gain` over the better of no passage and another one, `order` over the words
    of the passage in another order, and the least mean log-probability of a text: an answer of a
    few words may be said in many ways, so that its own says little.
    """

    gain: float = 0.3
    order: float = 0.0
    likely: float = -1.7


@dataclass(frozen=True)
class PieceLogprob:
    """Log-probability of a piece in one setting, in nats, and its tokens."""

    logprob: float
    tokens: int

    @property
    def mean(self) -> float:
        """In nats per token."""
        return self.logprob / self.tokens


def ungrounded(
    piece: GeneratedText, readings: Mapping[str, PieceLogprob], limits: GroundingLimits
) -> str:
    """Why the log-probabilities of a piece do not show that it comes from the passage, or ""."""
    controls = [reading.mean for setting, reading in readings.items() if setting in (NONE, OTHER)]
    if OWN not in readings or SHUFFLED not in readings or not controls:
        return "not measured"
    own = readings[OWN].mean
    if KINDS[piece.kind].row != "exercise" and own < limits.likely:
        return "the model would say something else"
    if own - max(controls) < limits.gain:
        return "the passage does not make it likelier"
    if own - readings[SHUFFLED].mean < limits.order:
        return "the words of the passage in any order make it as likely"
    return ""


def shuffled(passage: Passage) -> Passage:
    """A passage with its words in an order that only they decide."""
    spoken = passage.text.split()
    places = sorted(range(len(spoken)), key=lambda at: hash_order(f"{at} {passage.text}", 0))
    return replace(passage, text=" ".join(spoken[at] for at in places))


def continuation_of(piece: GeneratedText, excerpt: Excerpt, passages: Sequence[Passage]) -> str:
    """The prompt that a piece continues, with these passages before it."""
    question, _ = open_layout(piece.question, "")
    return passage_block(passages) + (question if piece.question else f"{title_of(excerpt)}:")
