"""Wrong options of a fact: answers of its kind that other sentences have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from random import Random

from domainlift.text.normalise import contains, words
from ensemble.router.stop_words import FUNCTION_WORDS
from improve.exam.fact_finder import Fact

N_WRONG = 3


def wrong_options(
    fact: Fact, peers: Sequence[Fact], draw: Random, pairs: Set[tuple[str, str]] = frozenset()
) -> list[str]:
    """Three answers of other facts of this kind that are wrong here; fewer where there are none.

    Those come first that stand after the same two words, then after the same last word. What
    stands in the chunk of the fact, or in the question, may be right or is plainly wrong; so may be
    a term that stands elsewhere beside the word that is beside this one, in `pairs` of words.
    """
    pool = list(peers)
    draw.shuffle(pool)
    pool.sort(key=lambda peer: -_likeness(fact, peer))
    here = f"{fact.chunk.heading}\n{fact.chunk.text}\n{fact.sentence}"
    chosen: dict[str, str] = {}
    own = normal(fact.answer)
    for peer in pool:
        key = normal(peer.answer)
        if key == own or key in chosen or not key or contains(here, peer.answer):
            continue
        if fact.kind == "term" and not pairs.isdisjoint(_beside(fact, key)):
            continue
        if _overlap(own, key) or any(_overlap(key, each) for each in chosen):
            continue
        chosen[key] = _fitted(peer.answer, fact)
        if len(chosen) == N_WRONG:
            break
    return list(chosen.values())


def word_pairs(texts: Iterable[str], terms: Set[str]) -> Set[tuple[str, str]]:
    """Words of texts that stand side by side, of which one is one of these terms."""
    return {pair for text in texts for pair in pairwise(words(text)) if not terms.isdisjoint(pair)}


def normal(answer: str) -> str:
    """An answer's words, by which two of them are one."""
    return " ".join(words(answer))


def peers_of(facts: Sequence[Fact]) -> Mapping[str, list[Fact]]:
    """Facts by kind, each answer once: what is often said would be a wrong option too often."""
    once: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        once.setdefault((fact.kind, f"{normal(fact.answer)} {fact.slot}"), fact)
    pools: dict[str, list[Fact]] = {}
    for (kind, _), fact in once.items():
        pools.setdefault(kind, []).append(fact)
    return pools


def _likeness(fact: Fact, peer: Fact) -> int:
    """How much a peer's answer looks and stands like the fact's own."""
    score = 0
    if fact.slot and fact.slot == peer.slot:
        score += 4
    elif fact.slot and fact.slot.split()[-1:] == peer.slot.split()[-1:]:
        score += 2
    if fact.answer[:1].isdigit() == peer.answer[:1].isdigit():
        score += 2
    if fact.kind == "number" and _next_word(fact) == _next_word(peer):
        score += 2
    if len(fact.answer.split()) == len(peer.answer.split()):
        score += 1
    return score


def _beside(fact: Fact, term: str) -> list[tuple[str, str]]:
    """A term with the words before and after a fact's answer that say something."""
    before = [(word, term) for word in words(fact.before)[-1:]]
    after = [(term, word) for word in words(fact.after)[:1]]
    return [pair for pair in before + after if FUNCTION_WORDS.isdisjoint(pair)]


def _next_word(fact: Fact) -> str:
    return next(iter(words(fact.after)), "")


def _overlap(one: str, other: str) -> bool:
    """Whether one answer is a part of the other, so that both could be right."""
    return f" {one} " in f" {other} " or f" {other} " in f" {one} "


def _fitted(answer: str, fact: Fact) -> str:
    """A term in the case of the one whose place it takes."""
    if fact.kind == "definition" and fact.answer[:1].isupper() and answer[:1].islower():
        return answer[0].upper() + answer[1:]
    return answer
