"""Questions that a model writes about passages, each kept only with evidence.

What is kept has no fault in its words (`improve/exam/question_faults.py`); its answer stands in one
sentence of the passage; and when the writer is asked the question with the passage before it, it
gives that answer (a round trip, as Alberti et al., 2019, arXiv 1906.05416, filter theirs).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prompts import passage_block
from benchmarks.scoring.replies.thoughts import separate_thought
from domainlift.files import disk_errors, exclusive_lock
from domainlift.jsonl import AppendLog, read_log
from domainlift.sampling import hash_order
from domainlift.text.normalise import words
from domainlift.types import Passage
from engines.base import Answer, Engine, Message, Mode, Prompt, Request, Status
from finetune.data.cleaning import clean_rows, open_layout
from finetune.data.sources.sentences import sentences
from improve.exam.fact_finder import Fact, contains, kind_of_answer
from improve.exam.question_faults import WrittenPair, question_fault, title_of
from rag.base import Chunk

#: Called with what is being done and how many of how many pieces of it are done.
Progress = Callable[[str, int, int], None]
#: Passages that a model writes about at most.
MOST_PASSAGES = 120
#: Tokens of a reply per token of its passage, and besides; the least that is worth asking for.
_LENGTH, _MORE, _LEAST = 2, 64, 48
_TEMPLATE = 64  # what a chat template may add
_STOPS = ("\n\n\n", "<passages>", "</passages>")
_REPLY_TOKENS = 24
_ANSWER = re.compile(r"^(?:the answer is|answer:|it is|it's)\s+", re.IGNORECASE)
_PAIR = re.compile(
    r"(?:\*\*)?\bQ(?:uestion)?(?: ?\d+)?(?:\*\*)?[:.](?:\*\*)?(?P<question>.*?)"
    r"\n\W*(?:\d+[.)] )?A(?:nswer)?(?: ?\d+)?(?:\*\*)?[:.](?:\*\*)?(?P<answer>[^\n]*)",
    re.IGNORECASE | re.DOTALL,
)
_ASKED = (
    "Write questions that the passage answers, and their answers of a few words. Write in the "
    "language of the passage, only what was asked for, and nothing that the passage does not say. "
    "Call things by their names instead of `it` and `they`."
)
_EXAMPLE = Passage(
    "The large kiln was bought in 1987 and holds ninety pots. Ivo Lund cleans it every Monday, "
    "because dust spoils the glaze.",
    "Pottery > Kiln",
)
_EXAMPLE_REPLY = (
    "Question: In which year was the large kiln bought?\nAnswer: 1987\n"
    "Question: How many pots does the large kiln hold?\nAnswer: ninety\n"
    "Question: Who cleans the kiln?\nAnswer: Ivo Lund\n"
    "Question: What spoils the glaze?\nAnswer: dust"
)


@dataclass(frozen=True)
class WrittenFacts:
    """Questions by their facts, the digest of the `writer`, and how many it wrote in all."""

    writer: str
    questions: Mapping[Fact, str]
    asked: int
    rejected: Mapping[str, int]


def write_questions(
    name: str, chunks: Sequence[Chunk], engine: Engine, folder: Path, progress: Progress
) -> WrittenFacts:
    """Have a model write about at most `MOST_PASSAGES`; what `folder` holds is not asked again."""
    chosen = sorted(chunks, key=lambda chunk: hash_order(chunk.id, name))[:MOST_PASSAGES]
    written = [
        (chunk, pair)
        for chunk, reply in _replies(chosen, engine, folder, progress)
        for pair in pairs_of(reply)
    ]
    rejected: Counter[str] = Counter()
    drafts = list(_drafts(written, rejected))
    kept = {}
    for (fact, question), reply in zip(drafts, _round_trip(drafts, engine, progress), strict=True):
        if agrees(reply, fact.answer):
            kept[fact] = question
        else:
            rejected["the writer itself answers otherwise"] += 1
    return WrittenFacts(engine.info.digest, kept, len(written), dict(rejected))


def pairs_of(reply: str) -> list[WrittenPair]:
    """The questions of a reply with their answers; an empty pair for a reply without any."""
    text = clean_rows(reply).strip()
    pairs = [
        WrittenPair(" ".join(m["question"].split()), m["answer"].strip().rstrip("."))
        for m in _PAIR.finditer(text)
    ]
    return pairs or [WrittenPair("", "")]


def agrees(reply: str, answer: str) -> bool:
    """Whether a reply gives this answer and little else; articles and case do not count."""
    told = _without_articles(_ANSWER.sub("", reply.strip().split("\n")[0]))
    wanted = _without_articles(answer)
    return (
        bool(wanted)
        and contains(" ".join(told), " ".join(wanted))
        and (len(told) <= 2 * len(wanted) + 6)
    )


def _without_articles(text: str) -> list[str]:
    return [word for word in words(text) if word not in ("a", "an", "the")]


def _passage(chunk: Chunk) -> Passage:
    return Passage(chunk.text, chunk.heading, chunk.id, chunk.source)


def _replies(
    chunks: Sequence[Chunk], engine: Engine, folder: Path, progress: Progress
) -> list[tuple[Chunk, str]]:
    """Each passage with what was written about it; a reply is stored before the next is asked."""
    log = AppendLog(folder / f"{_origin(engine)}.jsonl", fsync=True)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock, wait = log.path.with_suffix(".lock"), "wait for it, then repeat the command"
    hint = "remove that line: what it held is asked again"
    with exclusive_lock(lock, f"`{log.path.name}`", wait), log.writing():
        stored = read_log(log.path, lambda line: (line["passage"], line["text"]), "no reply", hint)
        replies: dict[str, str] = dict(stored)
        missing = [chunk for chunk in chunks if chunk.id not in replies]
        requests = [each for chunk in missing if (each := _request(chunk, engine)) is not None]
        for answer in _answers(engine, requests, "writing", progress):
            if answer.status is Status.OK:
                # The last of what was cut off may lack its end.
                text = answer.text or ""
                replies[answer.id] = text.rpartition("\n")[0] if answer.cut_off else text
                log.append({"passage": answer.id, "text": replies[answer.id]})
    return [(chunk, replies[chunk.id]) for chunk in chunks if chunk.id in replies]


def _origin(engine: Engine) -> str:
    """Digest of what replies depend on: the model, its options, and the words of the prompt."""
    info = engine.info
    model = info.engine, info.model, info.digest, sorted(info.options.items())
    words = info.has_chat_template, _ASKED, _EXAMPLE, _EXAMPLE_REPLY
    return hashlib.sha256(repr((model, words)).encode()).hexdigest()[:12]


def _request(chunk: Chunk, engine: Engine) -> Request | None:
    """The request for questions about a passage; None where the context leaves no room for them."""
    info, passage = engine.info, _passage(chunk)
    first, second = _asked(_EXAMPLE), _asked(passage)
    wanted = _LENGTH * engine.count(passage.text) + _MORE
    if info.context is not None:
        rest = engine.count(f"{first}{_EXAMPLE_REPLY}{second}") + _TEMPLATE
        wanted = min(wanted, info.context - rest)
    if wanted < _LEAST:
        return None
    if not info.has_chat_template:
        text = f"{first}\n\nReply:\n{_EXAMPLE_REPLY}\n\n{second}\n\nReply:\n"
        return Request(chunk.id, Mode.GENERATE, Prompt(text), stop=_STOPS, max_tokens=wanted)
    turns = ("user", first), ("assistant", _EXAMPLE_REPLY), ("user", second)
    prompt = Prompt(messages=tuple(Message(role, text) for role, text in turns))
    return Request(chunk.id, Mode.GENERATE, prompt, max_tokens=wanted)


def _asked(passage: Passage) -> str:
    return f"{passage_block([passage])}The passage is about {title_of(passage)}. {_ASKED}"


def _answers(
    engine: Engine, requests: Sequence[Request], stage: str, progress: Progress
) -> Iterator[Answer]:
    if not requests:
        return
    progress(stage, 0, len(requests))
    with closing(engine.answer(requests)) as answers:
        for done, answer in enumerate(map(separate_thought, answers), 1):
            yield answer
            progress(stage, done, len(requests))


def _drafts(
    written: Sequence[tuple[Chunk, WrittenPair]], rejected: Counter[str]
) -> Iterator[tuple[Fact, str]]:
    """Each question with the fact that it asks for; one answer of a sentence counts once."""
    seen: set[str] = set()
    for chunk, pair in written:
        fault, fact = question_fault(pair, _passage(chunk)), _located(pair, chunk)
        if fault:
            rejected[fault] += 1
        elif fact is None:
            rejected["its answer stands in no sentence of the passage"] += 1
        elif fact.id in seen:
            rejected["told already"] += 1
        else:
            seen.add(fact.id)
            yield fact, pair.question


def _located(pair: WrittenPair, chunk: Chunk) -> Fact | None:
    """The sentence that holds the answer and most of the question's words; None without one."""
    asked, answer = set(words(pair.question)), pair.answer
    holding = [
        (sentence, match)
        for sentence in sentences(chunk.text)
        if (match := re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", sentence, re.IGNORECASE))
    ]
    if not answer or not holding:
        return None
    sentence, match = max(holding, key=lambda pair: len(asked & set(words(pair[0]))))
    return Fact(sentence, match[0], match.start(), kind_of_answer(match[0]), chunk)


def _round_trip(
    drafts: Sequence[tuple[Fact, str]], engine: Engine, progress: Progress
) -> list[str]:
    """What the writer answers with the passage before it, in the order of the questions."""
    requests = [
        Request(
            str(n),
            Mode.GENERATE,
            _prompt(fact, question, engine),
            stop=("\n",),
            max_tokens=_REPLY_TOKENS,
        )
        for n, (fact, question) in enumerate(drafts)
    ]
    replies = [""] * len(requests)
    for answer in _answers(engine, requests, "asking the writer", progress):
        replies[int(answer.id)] = _text(answer)
    return replies


def _text(answer: Answer) -> str:
    return answer.text or "" if answer.status is Status.OK else ""


def _prompt(fact: Fact, question: str, engine: Engine) -> Prompt:
    asked, _ = open_layout(question, "")
    text = f"{passage_block([_passage(fact.chunk)])}{asked}"
    if not engine.info.has_chat_template:
        return Prompt(text)
    return Prompt(messages=(Message("user", f"{text}\nReply with a few words of the passage."),))
