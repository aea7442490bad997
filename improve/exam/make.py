"""Making of an exam from the chunks of a knowledge base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from domainlift.sampling import hash_order, seeded_random
from improve.exam.distractors import N_WRONG, normal, peers_of, word_pairs, wrong_options
from improve.exam.exam import PROBE, TRAIN, Exam, ExamQuestion, KindYield, split_of_fact
from improve.exam.fact_finder import Fact, find_facts
from improve.exam.wordings import GAP, IN_PLACE, QUESTION, common_words, examined_wording, wordings
from improve.exam.writer import WrittenFacts
from rag.base import Chunk

#: Facts that an exam asks for at most, and chunks that are read for them.
MOST_FACTS, MOST_CHUNKS = 300, 4_000
#: The version of this module's questions: it changes with every way of making them.
VERSION = "rules 3"
#: The kind of facts whose questions a model wrote.
WRITTEN = "written"


def make_exam(
    name: str, generation: str, chunks: Sequence[Chunk], written: WrittenFacts | None = None
) -> Exam:
    """Make the exam of a knowledge base; the same chunks make the same exam.

    The sentences of at most `MOST_CHUNKS` are read, and `written` questions are added.
    """
    sample = sampled_chunks(chunks)
    questions = written.questions if written is not None else {}
    told = {fact.id for fact in questions}
    facts = [*(fact for fact in find_facts(sample) if fact.id not in told), *questions]
    kinds = {fact.id: WRITTEN if fact in questions else fact.kind for fact in facts}
    rejected: dict[str, Counter[str]] = {kind: Counter() for kind in kinds.values()}
    pools = peers_of(facts)
    terms = {normal(peer.answer) for peer in pools.get("term", ())}
    pairs = word_pairs((chunk.text for chunk in sample), terms)
    good: list[tuple[Fact, list[str]]] = []
    for fact in facts:
        wrong = wrong_options(fact, pools[fact.kind], seeded_random(fact.id, 0), pairs)
        if len(wrong) == N_WRONG:
            good.append((fact, wrong))
        else:
            rejected[kinds[fact.id]]["too few wrong options of its kind"] += 1
    chosen = _chosen(good)
    for fact, _ in good:
        if fact.id not in chosen:
            rejected[kinds[fact.id]]["beyond the size of an exam"] += 1
    common = common_words([chunk.text for chunk in sample])
    order = sorted(chosen, key=lambda fact: hash_order(fact, name))
    ranks = {fact: rank for rank, fact in enumerate(order)}
    made = [
        question
        for fact, wrong in good
        if fact.id in ranks
        for question in _questions(
            replace(fact, kind=kinds[fact.id]),
            wrong,
            {**wordings(fact, common), **_written(fact, questions)},
            split_of_fact(ranks[fact.id], len(ranks)),
        )
    ]
    found, kept = Counter(kinds.values()), Counter(kinds[fact] for fact in ranks)
    by_kind = {kind: KindYield(found[kind], kept[kind], dict(rejected[kind])) for kind in found}
    if written is not None:
        refused = Counter(written.rejected) + rejected.get(WRITTEN, Counter())
        by_kind[WRITTEN] = KindYield(written.asked, kept[WRITTEN], dict(refused))
    by = f"{VERSION}, {written.writer}" if written is not None else VERSION
    return Exam(name, tuple(_balanced(made)), by_kind, generation, by)


def _written(fact: Fact, questions: Mapping[Fact, str]) -> dict[str, str]:
    return {QUESTION: questions[fact]} if fact in questions else {}


def sampled_chunks(chunks: Sequence[Chunk]) -> list[Chunk]:
    """At most `MOST_CHUNKS`, in their order."""
    if len(chunks) <= MOST_CHUNKS:
        return list(chunks)
    by_hash = sorted(range(len(chunks)), key=lambda row: hash_order(chunks[row].id))
    return [chunks[row] for row in sorted(by_hash[:MOST_CHUNKS])]


def _chosen(good: Iterable[tuple[Fact, list[str]]]) -> set[str]:
    """The facts that are asked for: as many of each document as of any other, as far as it goes."""
    by_source: dict[str, list[str]] = {}
    for fact, _ in good:
        by_source.setdefault(fact.chunk.source, []).append(fact.id)
    for own in by_source.values():
        own.sort(key=hash_order)
    turns = [
        (rank, hash_order(source), fact)
        for source, own in by_source.items()
        for rank, fact in enumerate(own)
    ]
    return {fact for _, _, fact in sorted(turns)[:MOST_FACTS]}


def _questions(
    fact: Fact, wrong: Sequence[str], made: Mapping[str, str], place: tuple[str, bool]
) -> list[ExamQuestion]:
    split, taught = place
    examined = examined_wording(fact, made)
    probe = IN_PLACE if examined == GAP else GAP
    splits = {probe: TRAIN if taught else PROBE, examined: split}
    if taught and IN_PLACE not in splits:
        splits[IN_PLACE] = TRAIN
    return [_question(fact, wrong, name, made[name], part, taught) for name, part in splits.items()]


def _question(
    fact: Fact, wrong: Sequence[str], wording: str, text: str, split: str, taught: bool
) -> ExamQuestion:
    """A question with its answer in front."""
    draw = seeded_random(f"{fact.id}/{wording}", 1)
    options = draw.sample(list(wrong), len(wrong))
    options.insert(0, fact.answer)
    chunk = fact.chunk
    source = f"{chunk.source} > {chunk.heading}" if chunk.heading else chunk.source
    return ExamQuestion(
        f"{fact.id}-{wording.replace(' ', '-')}",
        text,
        tuple(options),
        0,
        chunk.text,
        source,
        fact.kind,
        split,
        fact.id,
        wording,
        chunk.source,
        taught,
    )


def _balanced(questions: Sequence[ExamQuestion]) -> Iterator[ExamQuestion]:
    """Move the right options so that in each split each place is as frequent as any other."""
    order = sorted(questions, key=lambda each: hash_order(each.id))
    count: Counter[str] = Counter()
    places = {}
    for each in order:
        places[each.id] = count[each.split] % len(each.options)
        count[each.split] += 1
    for each in questions:
        right, *wrong = each.options
        wrong.insert(places[each.id], right)
        yield replace(each, options=tuple(wrong), answer=places[each.id])
