"""`bench run`: score a model per domain."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.experiment_file import config_text
from bench.options import (
    ALL,
    DEFAULT_MODEL,
    WORKSPACE,
    Data,
    Device,
    Domains,
    Json,
    Limit,
    PrintConfig,
    Suite,
    Tasks,
    WorkspaceOption,
    comma_separated,
    command_line,
    suite_for,
)
from benchmarks.results.domain_scores import EvalResult, evaluate_run
from benchmarks.results.run_result import RunResult
from benchmarks.runs.runner import EvalSettings, prepare_job
from benchmarks.runs.store import RunStore
from benchmarks.runs.suites import choose_tasks
from benchmarks.scoring.metric_registry import REPLY_METRICS, metric_names
from domainlift.errors import BenchError, Misuse, NoSuch, member_of
from engines.base import Mode
from engines.registry import EngineOptions, is_served, open_engine
from improve.choose_form import choose_form
from improve.options import RetrievalOptions, RunOptions, TreatmentOptions
from improve.run_plan import run_by_label, run_plan
from improve.score import score_job
from knowledge_bases.domains import load_domains
from rag.search.retrieval import Retrieval
from rag.treatment import TOKENS
from reports.run_result import show_run_result
from reports.terminal import print_json

AUTO = "auto"


def run(
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What to score.")
    ] = DEFAULT_MODEL,
    suite: Suite = None,
    task: Tasks = None,
    domains: Domains = None,
    limit: Limit = None,
    scoring: Annotated[
        str | None,
        typer.Option(
            help="letter, cloze or generate; auto: the form that serves best on validation "
            "questions. [default: the task's own]"
        ),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples before a question. [default: the task's]")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Put questions through the chat template.")
    ] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Limit of a generated reply; one that it ends is cut off. [default: the "
            "task's, or 256]",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help=f"How replies to open questions are graded: {', '.join(REPLY_METRICS)}."),
    ] = None,
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
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for one request to a server.")
    ] = 300.0,
    print_config: PrintConfig = False,
    as_json: Json = False,
) -> None:
    """Score a model per domain.

    An unfinished run goes on when its command is repeated.

    Example: bench run --model tiny --suite demo
    """
    if print_config:
        print(config_text("run", locals()), end="")
        return
    auto = scoring == AUTO
    named = scoring if not auto else None
    settings = EvalSettings(
        suite="tasks" if task else suite_for(suite, model),
        mode=member_of(Mode, "way of scoring", named, AUTO) if named is not None else None,
        shots=shots,
        chat=chat,
        limit=limit,
        seed=seed,
        max_tokens=max_tokens,
        command=command_line(sys.argv[1:]),
        domains=comma_separated(domains),
        metrics=metric_names(metric) if metric is not None else (),
    )
    options = EngineOptions(device, dtype, batch_tokens, context, seed, timeout, concurrency)
    run_options = RunOptions(workspace, data, resume, fresh, target)
    if plan is not None and (rag is not None or adapter is not None):
        raise Misuse("`--plan` names passages and adapters", "leave `--rag` and `--adapter` out")
    retrieval = None
    if rag is not None:
        retrieval = RetrievalOptions(
            () if rag == ALL else comma_separated(rag),
            rag_gate,
            Retrieval(reranker=rerank),
            passages,
            passage_tokens,
            query_options,
        )
    wanted = TreatmentOptions(retrieval, comma_separated(adapter))
    result = _score(model, options, settings, task, run_options, wanted, plan, auto=auto)
    if as_json:
        print_json(result.as_json())
    else:
        show_run_result(result)
    finished = RunStore(workspace).get(result.profile.run).manifest.finished
    _fail_on_errors(result.profile, finished)


def _score(
    model: str,
    engine_options: EngineOptions,
    settings: EvalSettings,
    names: Sequence[str] | None,
    options: RunOptions,
    wanted: TreatmentOptions,
    plan: Path | None,
    *,
    auto: bool,
) -> RunResult:
    domains = load_domains(options.workspace)
    for name in settings.domains:
        if name not in domains:
            raise NoSuch("domain", name, domains, "bench domains")
    # A server that does not answer says so at once; a model in this process takes its time, and
    # is loaded only for tasks that are there.
    engine = open_engine(model, engine_options) if is_served(model) else None
    shots = settings.shots
    asked = auto or settings.chat or settings.mode is not None or shots is not None
    try:
        tasks, settings = choose_tasks(names, settings, domains, options.data)
        if engine is None:
            engine = open_engine(model, engine_options)
        if auto:
            # What is done to questions changes the habit of letters, so none is divided out then.
            treated = plan is not None or wanted.retrieval is not None or bool(wanted.adapters)
            choice = choose_form(tasks, settings, engine, options, shots=shots, debias=not treated)
            settings = choice.in_settings(settings)
        if plan is not None:
            return run_plan(plan, tasks, settings, engine, options, asked=asked)
        if wanted.retrieval is not None or wanted.adapters:
            return run_by_label(tasks, settings, engine, options, wanted)
        run = score_job(prepare_job(tasks, settings, engine.info), engine, options)
        return RunResult(evaluate_run(run, options.target))
    finally:
        if engine is not None:
            engine.close()


def _fail_on_errors(profile: EvalResult, finished: bool) -> None:
    """Errors are a failure of the command, however good the rest is."""
    errors, n = profile.overall.errors, profile.overall.n
    if errors or profile.missing:
        total = n + errors + profile.overall.truncated + profile.missing
        resume = f"the same command with `--resume {profile.run}`"
        raise BenchError(
            f"{errors + profile.missing} of {total} questions have no answer; the scores cover {n}",
            f"the server refuses them for good; once it does not, {resume} asks them again"
            if finished
            else f"repeat {resume}: it asks only those again",
        )
