"""A GGUF file in this process, against its dequantised weights and against llama-server.

    python -m perf.gguf smollm2 --questions 100

Each side scores the same built-in questions in a process of its own, one after the other. The time
is that of the scoring; `ready` is from a running Python to the loaded model; memory is the peak of
the process. llama-server is that of the package `xllamacpp`, without flash attention as ours, and
is asked for one token at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.suites import load_suite
from benchmarks.tasks.registry import load_task
from domainlift.process_memory import resident
from domainlift.sampling import stratified
from domainlift.types import Treatment
from engines.base import Answer, Mode, Request
from engines.gguf.files import smollm2_file
from engines.gguf.model import processor_threads
from engines.registry import SMOLLM2, EngineOptions, open_engine, weights_name
from engines.servers.http import Server
from knowledge_bases.domains import load_domains
from perf.commands import heading, line, measure_apart

SIDES = ("ours", "dequantised", "llama-server")
#: What a server is asked for, so that every letter is among its alternatives.
_ALTERNATIVES = 2000


def main() -> None:
    """Run the sides one after the other and print one table."""
    settings = _arguments()
    if settings.side is not None:
        print(json.dumps(_measure(settings)))
        return
    compare_engines(*sys.argv[1:])


def compare_engines(*words: str) -> None:
    """Measure each side in a process of its own, with these arguments, and print the table."""
    sides = {}
    for side in SIDES:
        print(f"{side} …", file=sys.stderr)
        sides[side] = measure_apart("perf.gguf", *words, "--side", side)
    _table(sides)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a GGUF file: three ways to score it")
    parser.add_argument("model", help="smollm2 or a GGUF file")
    parser.add_argument("--suite", default="demo")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(settings: argparse.Namespace) -> dict[str, Any]:
    requests = {
        mode: _requests(settings.suite, settings.questions, mode)
        for mode in (Mode.LETTER, Mode.CLOZE)
    }
    found: dict[str, Any] = {}
    begun = time.time()
    if settings.side == "llama-server":
        server = _LlamaServer(settings.model)
        found["ready"] = time.time() - begun
        found["letter"] = _timed(server.letters(requests[Mode.LETTER]))
    else:
        dequantised = settings.side == "dequantised"
        name = weights_name(settings.model) if dequantised else settings.model
        engine = open_engine(name, EngineOptions(device="cpu"))
        found["ready"] = time.time() - begun
        for mode in (Mode.LETTER, Mode.CLOZE):
            found[mode] = _timed(engine.answer(requests[mode]))
    peak = resident(most=True)
    found["memory"] = peak / 1024**2 if peak is not None else float("nan")
    return found


def _requests(suite: str, count: int, mode: Mode) -> list[Request]:
    """Requests on built-in questions of a suite, spread over its domains, without examples."""
    domains = load_domains()
    tasks = [
        load_task(name, data=None, domains=domains) for name in load_suite(suite, domains).tasks
    ]
    prompters = {
        task.name: PromptBuilder(task, PromptFormat(mode, 0, chat=False)) for task in tasks
    }
    questions = stratified([q for task in tasks for q in task.questions], count, seed=0)
    return [prompters[question.task].request(question, Treatment()) for question in questions]


def _timed(answers: Iterator[Answer]) -> dict[str, Any]:
    start = time.perf_counter()
    logprobs = {answer.id: answer.logprobs for answer in answers}
    return {"seconds": (time.perf_counter() - start) / len(logprobs), "logprobs": logprobs}


class _LlamaServer:
    """llama-server in this process, over HTTP."""

    def __init__(self, model: str) -> None:
        xllamacpp: Any = import_module("xllamacpp")  # it has no type stubs

        params: Any = xllamacpp.CommonParams()
        params.model.path = str(smollm2_file()) if model == SMOLLM2 else model
        params.n_ctx, params.n_parallel, params.n_gpu_layers = 4096, 1, 0
        params.verbosity = -1
        params.cpuparams.n_threads = processor_threads()
        off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.flash_attn_type = off
        server: Any = xllamacpp.Server
        self._server = server(params)
        self._http = Server(self._server.listening_address, timeout=600.0)

    def letters(self, requests: Sequence[Request]) -> Iterator[Answer]:
        """Read the letters from the alternatives of the first token."""
        ids = {
            option: self._tokens("Answer:" + option)[-1]
            for request in requests
            for option in request.options
        }
        for request in requests:
            said = self._http.post(
                "/completion",
                {
                    "prompt": request.prompt.text,
                    "n_predict": 1,
                    "n_probs": _ALTERNATIVES,
                    "temperature": 0,
                    "ignore_eos": True,
                    "cache_prompt": True,
                },
            )
            (first,) = said["completion_probabilities"]
            found = {each["id"]: float(each["logprob"]) for each in first["top_logprobs"]}
            yield Answer(
                request.id,
                logprobs=tuple(found.get(ids[option], float("nan")) for option in request.options),
            )

    def _tokens(self, text: str) -> list[int]:
        return [int(token) for token in self._http.post("/tokenize", {"content": text})["tokens"]]


def _table(sides: dict[str, dict[str, Any]]) -> None:
    print(heading("", *sides))
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "ready, s": lambda side: f"{side['ready']:.2f}",
        "peak memory, MiB": lambda side: f"{side['memory']:.0f}",
        "letters, s per question": lambda side: f"{side['letter']['seconds']:.4f}",
        "cloze, s per question": lambda side: (
            f"{side['cloze']['seconds']:.4f}" if "cloze" in side else ""
        ),
    }
    for label, cell in rows.items():
        print(line(label, *map(cell, sides.values())))
    ours = sides["ours"]
    for other in SIDES[1:]:
        for mode in ("letter", "cloze"):
            if mode in sides[other]:
                _differences(f"{mode}, ours against {other}", ours[mode], sides[other][mode])


def _first(logprobs: Sequence[float]) -> int:
    return list(logprobs).index(max(logprobs))


def _differences(label: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    gaps = sorted(
        abs(a - b)
        for key, own in ours["logprobs"].items()
        for a, b in zip(own, theirs["logprobs"][key], strict=True)
        if not math.isnan(a + b)  # a letter beyond the server's alternatives
    )
    same = sum(
        _first(own) == _first(theirs["logprobs"][key]) for key, own in ours["logprobs"].items()
    )
    print(
        f"\n{label}: |difference of log-probability| median {gaps[len(gaps) // 2]:.3f}, "
        f"largest {gaps[-1]:.3f} over {len(gaps)} options; the same choice on {same} of "
        f"{len(ours['logprobs'])} questions"
    )


if __name__ == "__main__":
    main()
