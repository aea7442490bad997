"""Rows that keep what a model knows: what it answers right already, in its own words.

Training on its own answers changes a model least, so they hold other knowledge in place while a
domain is learned. Of a question with options the chosen one is what it said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engines.base import Message
from finetune.data.cleaning import join
from finetune.data.rows import Row
from finetune.data.sampling import choose_evenly


@dataclass(frozen=True)
class SelfAnswer:
    """A question as it was asked, and what the base model said.

    Either `options`, as they continue the prompt, and the index `chosen` of them, or the
    generated `reply`; `whole` is false for a reply that was cut off. `messages` win over
    `prompt`, as they do everywhere.
    """

    prompt: str
    domain: str
    right: bool
    options: tuple[str, ...] = ()
    chosen: int | None = None
    reply: str = ""
    whole: bool = True
    messages: tuple[Message, ...] = ()
    source: str = ""
    licence: str = ""


def replay_rows(
    answered: Iterable[SelfAnswer],
    *,
    size: int | None = None,
    seed: int = 0,
    without: Iterable[str] = (),
) -> list[Row]:
    """At most `size` rows of what was answered right, an even share of each domain.

    `without` names the domains that are to be learned: they need no replay of themselves. A
    reply that was cut off, or that says nothing, is left out.
    """
    learned = frozenset(without)
    rows = [
        _row(each, said)
        for each in answered
        if each.right and each.domain not in learned and (said := _said(each))
    ]
    return choose_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.domain)


def _said(answered: SelfAnswer) -> str:
    """What the model said, "" where it cannot be learned."""
    if answered.options:
        return answered.options[answered.chosen].strip() if answered.chosen is not None else ""
    said = answered.reply.rstrip() if answered.whole else ""
    return said if said.strip() else ""


def _row(answered: SelfAnswer, said: str) -> Row:
    if answered.messages:
        prompt, completion = "", said.strip()
    elif answered.options:
        # An option may begin with any sign, and continues the prompt as a word of its own.
        seam = " " if answered.prompt[-1:].strip() else ""
        prompt, completion = answered.prompt, seam + said
    else:
        prompt, completion = answered.prompt, join(answered.prompt, said)
    return Row(
        prompt=prompt,
        completion=completion,
        domain=answered.domain,
        kind="replay",
        source=answered.source,
        licence=answered.licence,
        messages=answered.messages,
    )
