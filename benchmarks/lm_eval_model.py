"""Our engines as lm-eval's language model.

lm_eval.simple_evaluate(model=EngineLM(open_engine("tiny")), tasks=["arc_easy"])

Importing this module imports lm_eval's interface, so only those who use lm-eval import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from domainlift.errors import BenchError, Misuse
from engines.base import Answer, Engine, Mode, Prompt, Request, Status

_MAX_TOKENS = 256


class EngineLM(LM):  # type: ignore[misc]
    """Scores lm-eval's requests with one of our engines.

    Requests with the same context become one question, so that its options share a forward pass,
    and all questions are given to the engine at once, which shares every prefix among them.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Per request (context, continuation): its log-likelihood, and whether it is greedy."""
        pairs = [(str(context), str(text)) for context, text in (r.args for r in requests)]
        return self._pairs(pairs)

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Per request (text,): the log-likelihood of a text that fits into the context."""
        return [value for value, _ in self._pairs([("", str(r.args[0])) for r in requests])]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Per request (context, settings): the greedy reply up to one of `until`."""
        answers = self._ask([_generation(i, *r.args) for i, r in enumerate(requests)])
        return [str(answers[str(i)].text) for i in range(len(requests))]

    def _pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        options: dict[str, dict[str, int]] = {}
        for context, text in pairs:
            known = options.setdefault(context, {})
            known.setdefault(text, len(known))
        keys = {context: str(index) for index, context in enumerate(options)}
        answers = self._ask(
            [
                Request(keys[context], Mode.CLOZE, Prompt(text=context), tuple(texts))
                for context, texts in options.items()
            ]
        )
        results = []
        for context, text in pairs:
            answer, index = answers[keys[context]], options[context][text]
            results.append((answer.logprobs[index], answer.greedy[index]))
        return results

    def _ask(self, requests: Sequence[Request]) -> dict[str, Answer]:
        modes = {request.mode for request in requests}
        if not modes <= self._engine.info.modes:
            raise Misuse(
                f"engine `{self._engine.info.engine}` cannot give log-likelihoods of texts",
                "use a model in this process, or a task of type `generate_until`",
            )
        answers = {answer.id: answer for answer in self._engine.answer(requests)}
        failed = [a for a in answers.values() if a.status is not Status.OK]
        if failed:
            raise BenchError(f"{len(failed)} of {len(requests)} requests failed: {failed[0].error}")
        return answers


def _generation(index: int, context: str, settings: Mapping[str, Any]) -> Request:
    if settings.get("do_sample") or settings.get("temperature"):
        raise Misuse("the task samples its replies; only greedy ones can be repeated")
    until = settings.get("until") or ()
    return Request(
        id=str(index),
        mode=Mode.GENERATE,
        prompt=Prompt(text=context),
        stop=(until,) if isinstance(until, str) else tuple(until),
        max_tokens=int(settings.get("max_gen_toks", _MAX_TOKENS)),
    )
