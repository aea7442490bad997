"""Marks by which models set their thoughts apart from their answers."""

from __future__ import annotations

import re

_TAG = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"

#: What begins a thought: tags, Mistral's and Kimi's brackets, channels (gpt-oss, Gemma), Cohere's.
OPENING = re.compile(
    rf"<\s*{_TAG}(?:\s[^<>\n]{{0,80}})?>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING)\|>"
    r"|<\|channel\|?>\s*(?:analysis|commentary|thought)[^<\n]{0,80}(?:<\|message\|>)?"
    # gpt-oss where its special tokens were left out of the text.
    r"|<unused94>thought|\A\s*(?:analysis|commentary)(?=[A-Z\"'(])",
    re.IGNORECASE,
)
#: What ends it, and what begins the answer after one.
CLOSING = re.compile(
    rf"<\s*/\s*{_TAG}\s*>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING)\|>|<channel\|>"
    r"|<\|channel\|>\s*final[^<\n]{0,80}<\|message\|>|<unused95>|assistant\s?final(?=\W|[A-Z0-9])"
    r"|\bHere(?: is|'s) my response:",
    re.IGNORECASE,
)
#: Signs around an answer that say nothing.
SILENT = re.compile(
    r"<\|(?:start\|>assistant|end\|>|return\|>|call\|>|(?:begin|end)_of_solution\|>"
    r"|(?:START|END)_RESPONSE\|>)",
)
#: Marks that are special tokens of some vocabularies, which decoding would leave out.
TOKENS = (
    *("<think>", "</think>", "[THINK]", "[/THINK]", "<|START_THINKING|>", "<|END_THINKING|>"),
    *("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|channel>", "<channel|>"),
    *("<|begin_of_thought|>", "<|end_of_thought|>", "◁think▷", "◁/think▷"),
    *("<unused94>", "<unused95>", "<seed:think>", "</seed:think>"),
)


def opened_thought(prompt: str) -> str:
    """The mark with which a rendered prompt begins the reply's thought; "" for most prompts."""
    tail = prompt[-120:].rstrip()
    marks = [mark[0] for mark in OPENING.finditer(tail) if mark.end() == len(tail)]
    return marks[-1] if marks else ""


def answer_start(text: str) -> int:
    """Where a reply that begins with a thought goes on after it; its length where it has not.

    The blanks after a thought end no answer either.
    """
    if OPENING.match(text.lstrip()) is None:
        return 0
    closed = CLOSING.search(text)
    rest = "" if closed is None else text[closed.end() :].lstrip()
    return len(text) - len(rest)
