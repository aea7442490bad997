"""Marks by which models set their thoughts apart from their answers."""

from __future__ import annotations

import re

from domainlift.errors import Misuse

_WORD = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratch_?pad|cot|ponder"
    r"|(?:inner_|internal_)?monologue|chain_of_thoughts?|brainstorm(?:ing)?)"
)
_TAG = rf"(?:ant|[a-z0-9]{{1,12}}[:_-])?{_WORD}(?:[_-](?:process|content|steps?|trace|on))?"

#: What begins a thought: tags, Mistral's and Kimi's brackets, channels (gpt-oss, Gemma), special
#: tokens (Cohere, Solar, DeepSeek), and the words of Granite and Apriel.
OPENING = re.compile(
    rf"<\s*{_TAG}(?:\s[^<>\n]{{0,80}})?>|\[THINK\]|◁think▷"
    rf"|<[|｜](?:(?:begin|start)[_▁](?:of[_▁])?)?{_WORD}(?:[_▁](?:start|begin))?[|｜]>"
    r"|\A\s*Here(?: is|'s) my thought process:|(?<![^\n])Here are my reasoning steps:"
    r"|<\|channel\|?>\s*(?:analysis|commentary|thought)[^<\n]{0,80}(?:<\|message\|>)?"
    # gpt-oss where its special tokens were left out of the text.
    r"|<unused94>thought|\A\s*(?:analysis|commentary)(?=[A-Z\"'(])",
    re.IGNORECASE,
)
#: What ends it, and what begins the answer after one.
CLOSING = re.compile(
    rf"<\s*/\s*{_TAG}\s*>|\[/THINK\]|◁/think▷|<channel\|>|<\|content\|>"
    rf"|<[|｜](?:/{_WORD}|end[_▁](?:of[_▁])?{_WORD}|{_WORD}[_▁]end)[|｜]>"
    r"|<\|channel\|>\s*final[^<\n]{0,80}<\|message\|>|<unused95>|assistant\s?final(?=\W|[A-Z0-9])"
    r"|\bHere(?: is|'s) my response:|\[BEGIN FINAL RESPONSE\]",
    re.IGNORECASE,
)
#: Signs around an answer that say nothing.
SILENT = re.compile(
    r"<\|(?:start\|>assistant|end\|>|return\|>|call\|>|(?:begin|end)_of_solution\|>"
    r"|(?:START|END)_RESPONSE\|>)|\[END FINAL RESPONSE\]",
)
#: Marks that are special tokens of some vocabularies, which decoding would leave out.
TOKENS = (
    *("<think>", "</think>", "[THINK]", "[/THINK]", "<|START_THINKING|>", "<|END_THINKING|>"),
    *("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|channel>", "<channel|>"),
    *("<|begin_of_thought|>", "<|end_of_thought|>", "◁think▷", "◁/think▷"),
    *("<unused94>", "<unused95>", "<seed:think>", "</seed:think>", "<|think|>", "<|content|>"),
    *("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]", "<longcat_think>", "</longcat_think>"),
    *("<｜begin▁of▁thinking｜>", "<｜end▁of▁thinking｜>", "<|thinking|>", "<|/thinking|>"),
)


def opened_thought(prompt: str) -> str:
    """The mark with which a rendered prompt begins the reply's thought; "" for most prompts."""
    tail = prompt[-120:].rstrip()
    marks = [mark[0] for mark in OPENING.finditer(tail) if mark.end() == len(tail)]
    return marks[-1] if marks else ""


def closing_of(opening: str) -> str:
    """The mark that ends the thought which this one begins."""
    if opening.startswith("<|channel|>"):
        return "<|end|><|start|>assistant<|channel|>final<|message|>"
    pairs = zip(TOKENS[::2], TOKENS[1::2], strict=True)
    known = {**dict(pairs), "<|channel>thought": "<channel|>", "<unused94>thought": "<unused95>"}
    known["Here are my reasoning steps:"] = "[BEGIN FINAL RESPONSE]"
    named = re.sub(r"(begin|start)(?=[_▁|｜])", "end", opening, flags=re.IGNORECASE)
    usual = named if named != opening else re.sub(r"<([|｜]?)", r"<\1/", opening, count=1)
    return known.get(opening, re.sub(r"\s[^<>]*>\Z", ">", usual))


def empty_ending(opens: str) -> str:
    """What ends a thought right after its beginning, in lines where the beginning is a line."""
    closing = closing_of(opens.strip())
    return f"\n{closing}\n\n" if opens.endswith("\n") else closing


def begins_with_thought(answer: str) -> bool:
    """Whether an answer begins with a thought; Misuse where that is never closed."""
    own = OPENING.match(answer.lstrip())
    if own is not None and CLOSING.search(answer.lstrip(), own.end()) is None:
        raise Misuse(f"a thought that `{own[0].strip()}` begins is never closed")
    return own is not None


def join_thought(prompt: str, answer: str) -> tuple[str, str]:
    """A prompt and an answer such that one thought, or none, stands between them.

    What the prompt opens, an answer with a thought goes on with, and one without closes at once;
    an empty thought at the prompt's end gives way to that of the answer.
    """
    mark = opened_thought(prompt)
    opens = prompt[prompt.rindex(mark) :] if mark else ""
    if not begins_with_thought(answer):
        is_closed = not mark or closing_of(mark) in answer
        return prompt, answer if is_closed else empty_ending(opens) + answer
    own = OPENING.match(answer := answer.lstrip())
    closed = None if own is None else CLOSING.search(answer, own.end())
    if own is None or closed is None or not mark:
        return _without_empty_thought(prompt), answer
    thought, said = answer[own.end() : closed.start()], answer[closed.end() :]
    thought = thought.removeprefix("\n") if opens.endswith("\n") else thought
    return prompt, thought + closing_of(mark) + said


def _without_empty_thought(prompt: str) -> str:
    text = prompt.rstrip()
    for closed in CLOSING.finditer(text, max(0, len(text) - 60)):
        before = text[: closed.start()].rstrip()
        mark = opened_thought(before)
        if closed.end() == len(text) and mark:
            return before.removesuffix(mark)
    return prompt


def answer_start(text: str) -> int:
    """Where a reply that has a thought goes on after it; its length where that is not closed.

    The blanks after a thought end no answer either, and the prompt may have begun it.
    """
    closed = CLOSING.search(text)
    if OPENING.match(text.lstrip()) is None and (closed is None or closed[0][0] not in "<[◁"):
        return 0
    rest = "" if closed is None else text[closed.end() :].lstrip()
    return len(text) - len(rest)
