"""Texts that teach a small model to read and to reckon, and leave it ignorant.

Two streams:

readings  passages that state facts, and a question on one of them. The facts are *shuffled*:
          each subject gets an object drawn at random, anew in every example. The model learns the
          words, and to answer from what stands before it, and cannot learn a fact.
short     arithmetic and elementary logic, which are true, and questions on facts without any
          passage, of which the answer is drawn at random.

The validation and test wordings never occur: they are met first in a benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.prompts import passage_block, question_block
from domainlift.types import Passage
from knowledge_bases.authoring import exercises, facts

DOMAINS = ("biology", "history", "security")
_UNHELPFUL_SHARE = 0.05  # of the readings: passages that say nothing of the question's subject
_CHAT_SHARE = 0.08


@dataclass(frozen=True)
class Example:
    """A prompt and the completion that follows it; the completion ends with the end token."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class World:
    """Every relation of the domains of which the model is to know the words only."""

    relations: tuple[tuple[str, facts.Relation], ...]

    @staticmethod
    def load(root: Path) -> World:
        """Read the facts.yaml of each domain below `root`."""
        return World(
            tuple(
                (domain, relation)
                for domain in DOMAINS
                for relation in facts.load_facts(root / domain / "facts.yaml")
            )
        )


@dataclass(frozen=True)
class Mix:
    """What a stage of the training reads.

    `distractors` are the weights of 0 to 3 passages beside the one that answers; `logic` is the
    set of wordings in which the logic is put.
    """

    arithmetic: float = 0.46
    reasoning: float = 0.44
    ignorance: float = 0.10
    distractors: tuple[float, ...] = (0.25, 0.2, 0.4, 0.15)
    logic: str = "train"


def short(world: World, rng: Random, mix: Mix = Mix()) -> Iterator[Example]:
    """An endless stream of exercises and of questions to guess at, decided by `rng` alone."""
    kinds = ("arithmetic", "logic", "ignorance")
    shares = (mix.arithmetic, mix.reasoning, mix.ignorance)
    while True:
        (kind,) = rng.choices(kinds, shares)
        if kind == "ignorance":
            question, answer = _unknowable(*_draw(world, rng)[1:], rng)
        else:
            exercise = (
                exercises.arithmetic(rng, "train")
                if kind == "arithmetic"
                else exercises.logic(rng, mix.logic)
            )
            question, answer = exercise.question, exercise.options[exercise.answer]
        yield _render((), question, answer, chat=rng.random() < _CHAT_SHARE)


def readings(world: World, rng: Random, mix: Mix = Mix()) -> Iterator[Example]:
    """An endless stream of questions on passages, decided by the state of `rng` alone."""
    while True:
        passages, question, answer = reading(world, rng, mix)
        yield _render(passages, question, answer, chat=rng.random() < _CHAT_SHARE)


def reading(world: World, rng: Random, mix: Mix) -> tuple[tuple[Passage, ...], str, str]:
    """Passages, a question that one of them (nearly always) answers, and the answer."""
    domain, relation, subject = _draw(world, rng)
    question, answer = _unknowable(relation, subject, rng)
    passages = _distractors(world, rng, domain, relation, subject, mix.distractors)
    if not passages or rng.random() >= _UNHELPFUL_SHARE:
        passages.append(_passage(rng, relation, subject, answer))
    rng.shuffle(passages)
    return tuple(passages), question, answer


def _draw(world: World, rng: Random) -> tuple[str, facts.Relation, str]:
    domain, relation = rng.choice(world.relations)
    return domain, relation, rng.choice(list(relation.facts))


def _unknowable(relation: facts.Relation, subject: str, rng: Random) -> tuple[str, str]:
    """A question on a fact, and an object of its kind drawn at random as the answer."""
    question = rng.choice(relation.questions["train"]).format(s=subject)
    return question[0].upper() + question[1:], rng.choice(relation.objects)


def _distractors(
    world: World,
    rng: Random,
    domain: str,
    relation: facts.Relation,
    subject: str,
    weights: tuple[float, ...],
) -> list[Passage]:
    """Up to three passages about other subjects, often of the same relation."""
    (count,) = rng.choices((0, 1, 2, 3), weights)
    told = {subject}
    passages = []
    for _ in range(count):
        other = relation
        if rng.random() < 0.4:
            near = [r for d, r in world.relations if d == domain]
            other = rng.choice(near if rng.random() < 0.7 else [r for _, r in world.relations])
        free = [s for s in other.facts if s not in told]
        chosen = rng.choice(free)
        told.add(chosen)
        passages.append(_passage(rng, other, chosen, rng.choice(other.objects)))
    return passages


def _passage(rng: Random, relation: facts.Relation, subject: str, obj: str) -> Passage:
    wordings = rng.sample(relation.statements, rng.choice((1, 2, 2)))
    text = " ".join(facts.statement(w, subject, obj) for w in wordings)
    source = f"{relation.title} > {facts.heading(subject)}" if rng.random() < 0.6 else ""
    return Passage(text=text, source=source)


def _render(passages: tuple[Passage, ...], question: str, answer: str, *, chat: bool) -> Example:
    body = passage_block(passages) + question_block(question)
    if not chat:
        return Example(body, f" {answer}<|endoftext|>")
    return Example(
        f"<|im_start|>user\n{body}<|im_end|>\n<|im_start|>assistant\n", f"{answer}<|im_end|>"
    )
