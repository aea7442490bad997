"""`bench run`: score a model per domain."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.options import (
    ALL,
    WORKSPACE,
    Data,
    Device,
    Json,
    Suite,
    WorkspaceOption,
    comma_separated,
    suite_for,
)
from domainlift.errors import BenchError, Misuse, NoSuch
from improve.arms import AdaptersByDomain, compare_arms
from improve.retrieve import RetrievalOptions
from improve.run_plan import run_plan
from improve.score import RunOptions, score_job
from rag.treatment import TOKENS

if TYPE_CHECKING:
    from benchmarks.results.domain_scores import EvalResult
    from benchmarks.results.run_result import RunResult
    from benchmarks.runs.runner import EvalSettings
    from benchmarks.tasks.base import Task
    from engines.base import Engine, Mode
    from engines.registry import EngineOptions


def run(
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What to score.")
    ] = "qwen2.5:3b",
    suite: Suite = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Tasks instead of a suite: a name, lm-eval:NAME, or a file."),
    ] = None,
    domains: Annotated[
        str | None, typer.Option(help="Only these domains, separated by commas.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions, spread over the domains.")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="letter, cloze or generate. [default: the task's own]")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples before a question. [default: the task's]")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Put questions through the chat template.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the sample, and of the server.")] = 0,
    target: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The accuracy that verdicts refer to.")
    ] = 0.60,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run; its settings must fit.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new run beside a stored one.")] = (
        False
    ),
    rag: Annotated[
        str | None,
        typer.Option(
            help="Also with passages: alone for all domains with a knowledge base, or DOMAIN,…"
        ),
    ] = None,
    rag_gate: Annotated[
        str, typer.Option(help="auto (calibrated per domain), off, or a least cosine.")
    ] = "auto",
    passages: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many per question. [default: calibrated, or 3]"),
    ] = None,
    passage_tokens: Annotated[
        int, typer.Option(min=1, help="At most so many of the answering model's tokens.")
    ] = TOKENS,
    query_options: Annotated[
        bool, typer.Option("--query-options", help="Search for the options too.")
    ] = False,
    mmr: Annotated[
        float | None,
        typer.Option(help="Weigh relevance against variety: 1 is relevance alone."),
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(help="A cross-encoder: a folder or a name on the hub.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="Also with an adapter: NAME or a folder for all questions; several, or "
            "`own`, each for the questions of its domain."
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Also with the treatments of a plan of `bench improve`.")
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16 (in-process).")
    ] = "auto",
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens in a batch (in-process). [default: by memory]")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=256, help="num_ctx of Ollama. [default: 4096]")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests at a time (OpenAI-compatible servers).")
    ] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds for one request to a server.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Score a model per domain.

    An unfinished run goes on when its command is repeated.

    Example: bench run --model tiny --suite demo
    """
    from benchmarks.runs.runner import EvalSettings
    from engines.registry import EngineOptions

    settings = EvalSettings(
        suite="tasks" if task else suite_for(suite, model),
        mode=_mode(scoring),
        shots=shots,
        chat=chat,
        limit=limit,
        seed=seed,
        command=command_line(sys.argv[1:]),
        domains=comma_separated(domains),
    )
    options = EngineOptions(device, dtype, batch_tokens, context, seed, timeout, concurrency)
    place = RunOptions(workspace, data, resume, fresh, target)
    choice = None
    if rag is not None:
        from rag.search.retrieval import Retrieval

        chosen = () if rag == ALL else comma_separated(rag)
        found = Retrieval(mmr=mmr, reranker=rerank)
        choice = RetrievalOptions(chosen, rag_gate, found, passages, passage_tokens, query_options)
    outcome = _score(
        model, options, settings, task, place, _TreatmentOptions(choice, adapter, plan)
    )
    if as_json:
        print(json.dumps(outcome.as_json(), ensure_ascii=False))
    else:
        from reports.run_result import show_outcome

        show_outcome(outcome)
    _fail_on_errors(outcome.profile)


@dataclass(frozen=True)
class _TreatmentOptions:
    """What the model gets besides its questions."""

    choice: RetrievalOptions | None
    adapter: str | None
    plan: Path | None = None

    def __post_init__(self) -> None:
        if self.plan is not None and (self.choice is not None or self.adapter is not None):
            raise Misuse(
                "`--plan` names passages and adapters", "leave `--rag` and `--adapter` out"
            )


def _adapters(
    names: str | None, engine: Engine, place: RunOptions, tasks: Sequence[Task]
) -> AdaptersByDomain | None:
    if names is None:
        return None
    from bench.commands.adapters import adapters_by_domain

    domains = {question.domain for task in tasks for question in task.questions}
    return adapters_by_domain(names, engine, place.workspace, domains)


def _score(
    model: str,
    options: EngineOptions,
    settings: EvalSettings,
    names: Sequence[str] | None,
    place: RunOptions,
    help_: _TreatmentOptions,
) -> RunResult:
    from benchmarks.results import run_result as outcome
    from benchmarks.results.domain_scores import evaluate_run
    from benchmarks.runs.runner import prepare_job
    from benchmarks.runs.select_tasks import choose_tasks
    from engines.registry import is_served, open_engine
    from knowledge_bases.domains import load_domains

    domains = load_domains(place.workspace)
    for name in settings.domains:
        if name not in domains:
            raise NoSuch("domain", name, domains, "bench domains")
    # A server that does not answer says so at once; a model in this process takes its time, and
    # is loaded only for tasks that are there.
    engine = open_engine(model, options) if is_served(model) else None
    try:
        tasks, settings = choose_tasks(names, settings, domains, place.data)
        if engine is None:
            engine = open_engine(model, options)
        if help_.plan is not None:
            return run_plan(help_.plan, tasks, settings, engine, place)
        if help_.choice is not None or help_.adapter is not None:
            adapters = _adapters(help_.adapter, engine, place, tasks)
            return compare_arms(tasks, settings, engine, place, help_.choice, adapters)
        run = score_job(prepare_job(tasks, settings, engine.info), engine, place)
        return outcome.RunResult(evaluate_run(run, place.target))
    finally:
        if engine is not None:
            engine.close()


def command_line(argv: Sequence[str]) -> str:
    """The command for the record; a name and password in a URL are nobody's business."""
    return re.sub(r"(https?://)[^/@\s]+@", r"\1", shlex.join(["bench", *argv]))


def _mode(name: str | None) -> Mode | None:
    from engines.base import Mode

    if name is None:
        return None
    if name not in set(Mode):
        raise NoSuch("way of scoring", name, [mode.value for mode in Mode])
    return Mode(name)


def _fail_on_errors(profile: EvalResult) -> None:
    """Errors are a failure of the command, however good the rest is."""
    errors, n = profile.overall.errors, profile.overall.n
    if errors or profile.missing:
        total = n + errors + profile.overall.truncated + profile.missing
        raise BenchError(
            f"{errors + profile.missing} of {total} questions have no answer; the scores cover {n}",
            f"repeat the same command with `--resume {profile.run}`: it asks only those again",
        )
