"""Check of a model that Ollama serves against the evaluated model.

Ollama returns the twenty likeliest next tokens as texts, so texts are compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domainlift.errors import BenchError
from engines.servers.http import Server
from engines.servers.letter_logprobs import Alternative, alternatives_of
from engines.servers.ollama import LOGPROBS_SINCE, SAMPLING, TOP
from engines.servers.ollama_model import is_older, look_up, parse_host
from engines.servers.responses import get_path
from finetune.adapters.registry import Adapter
from finetune.export.base import ExportJob, ExportOptions
from finetune.export.verify import Check, VerifiedPrompt, compare_logprobs, need_ok, tolerance_of

#: What is allowed where no base model is named to measure by: about what 8 bits cost.
UNMEASURED = 0.5
_HALF = "\N{REPLACEMENT CHARACTER}"


def check_served(
    adapter: Adapter, base: str, tag: str, options: ExportOptions, host: str | None = None
) -> Check:
    """Compare the model `tag` of the Ollama server at `host` or OLLAMA_HOST.

    `options.ollama_from` is the base model there, whose own drift says what is allowed. Raises
    BenchError where the server or the model is missing, and where the drift is too large.
    """
    url = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
    server = Server(url, timeout=600.0)
    try:
        served = _Ollama(server, tag)
        job = ExportJob(adapter, base, options)
        tolerance = UNMEASURED
        if options.ollama_from is not None:
            unadapted = _Ollama(server, options.ollama_from)
            drift = _compare(job.ask_base(), unadapted, job.tokenizer, 0.0)
            tolerance = tolerance_of(drift, unadapted.tag, unadapted.stored)
        check = _compare(job.adapt(), served, job.tokenizer, tolerance)
    finally:
        server.close()
    need_ok(check, tag, "create it anew from what `bench export --to ollama` writes")
    return check


class _Ollama:
    """One model of a server."""

    def __init__(self, server: Server, tag: str) -> None:
        served = look_up(server, tag)
        if is_older(served.version, LOGPROBS_SINCE):
            raise BenchError(
                f"Ollama {served.version} gives no log-probabilities", "update Ollama, then repeat"
            )
        self.tag = tag
        self.stored = served.quantization
        self._server = server
        self._think = {"think": False} if served.thinks else {}

    def top(self, prompt: str, context: int) -> list[Alternative]:
        """The likeliest next tokens, by text; none where the likeliest is the end."""
        body = {
            "model": self.tag,
            "prompt": prompt,
            "raw": True,
            "stream": False,
            "truncate": False,
            "logprobs": True,
            "top_logprobs": TOP,
            "options": {**SAMPLING, "seed": 0, "num_predict": 1, "num_ctx": context},
        }
        reply = self._server.post("/api/generate", body | self._think)
        found = get_path(reply, "logprobs", 0, "top_logprobs")
        return alternatives_of(found) if found else []


def _compare(
    verified: list[VerifiedPrompt], served: _Ollama, tokenizer: Any, tolerance: float
) -> Check:
    # One context for all: another one would have the server load the model again.
    context = max(2048, *(len(each.tokens) + 8 for each in verified))
    pairs = [(_readable(each, tokenizer), served.top(each.prompt, context)) for each in verified]
    pairs = [(each, found) for each, found in pairs if each.likeliest and found]
    heard = {each.prompt: found for each, found in pairs}
    if not heard:
        raise BenchError(
            f"`{served.tag}` gave no log-probabilities to any of {len(verified)} prompts"
        )
    return compare_logprobs(
        [each for each, _ in pairs],
        lambda each: _by_token(heard[each.prompt], each, tokenizer),
        lambda each: each.tokens,
        tolerance,
    )


def _readable(verified: VerifiedPrompt, tokenizer: Any) -> VerifiedPrompt:
    """Without tokens that have no text of their own: ends of turns, parts of letters."""
    special = set(tokenizer.all_special_tokens)
    texts = {token: _text(token, tokenizer) for token in verified.likeliest}
    plain = {token for token, text in texts.items() if text not in special and _HALF not in text}
    return replace(verified, likeliest={t: v for t, v in verified.likeliest.items() if t in plain})


def _by_token(
    found: list[Alternative], verified: VerifiedPrompt, tokenizer: Any
) -> Mapping[int, float]:
    """Texts as the tokens that were asked for; others get numbers that no token has."""
    known = {_text(token, tokenizer): token for token in verified.likeliest}
    return {known.get(text, -place): value for place, (text, value) in enumerate(found, 1)}


def _text(token: int, tokenizer: Any) -> str:
    return str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
