"""Loss of a model on training rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from engines.base import Engine, Mode, Prompt, Request
from finetune.data.rows import Row


def row_losses(rows: Sequence[Row], engine: Engine) -> list[float]:
    """The loss on each row's completion, in nats per token; infinite where it is not available."""
    requests = [row_request(str(place), row) for place, row in enumerate(rows)]
    logprobs = {int(answer.id): answer.logprobs for answer in engine.answer(requests)}
    return [
        -logprobs[place][0] / max(1, engine.count(row.completion))
        if logprobs.get(place)
        else math.inf
        for place, row in enumerate(rows)
    ]


def row_request(name: str, row: Row) -> Request:
    """The request for the probability of a row's completion."""
    tools = tuple(json.loads(row.tools)) if row.chain and row.tools else ()
    prompt = Prompt(row.prompt, row.asked, tools=tools)
    return Request(name, Mode.CLOZE, prompt, (row.completion,))


def mean_token_probability(rows: Sequence[Row], engine: Engine) -> float:
    """The geometric mean of the token probabilities of a row, averaged over rows."""
    engine.close()  # the model may have changed since, and so may its cached prefixes
    probabilities = [math.exp(-loss) for loss in row_losses(rows, engine)]
    return sum(probabilities) / len(probabilities)
