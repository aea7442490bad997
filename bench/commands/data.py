"""`bench data`: what an adapter learns from."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.data_push import push_command
from bench.commands.trace_review import damaged_note
from bench.options import (
    DEFAULT_MODEL,
    WORKSPACE,
    Data,
    Json,
    Solved,
    TraceRating,
    Unmarked,
    WorkspaceOption,
    command_group,
)
from domainlift.activity import activity
from domainlift.errors import Interrupted, Misuse, NoSuch
from domainlift.hints import copyable
from domainlift.text.contamination import QuestionIndex
from domainlift.text.display import one_line, printable
from domainlift.workspace import Workspace
from engines.local.loading import load_config_and_tokenizer
from engines.registry import source as engine_source
from finetune.data.build_dataset import BenchmarkIndexes, DatasetSpec, build_dataset, tasks_to_learn
from finetune.data.formats import check_rows
from finetune.data.prepare import PreparedDataset
from finetune.data.row_io import row_lines
from finetune.data.sources.agent_traces import TraceRows, TraceSource, trace_rows
from finetune.data.sources.raft import ContextSettings
from finetune.jobs import TrainingJob
from finetune.synthetic.from_knowledge_base import (
    SynthesisOptions,
    SyntheticRows,
    questions_with_passages,
    synthetic_textbook,
)
from finetune.synthetic.generate import SyntheticTextbook
from finetune.training.settings import TrainingArguments
from knowledge_bases.domains import bare_domain, load_domains
from reports.progress import Stages
from reports.synthetic import show_synthetic_rows, show_trace_rows
from reports.terminal import print_json, print_note
from traces.choose import TraceCriteria, TraceUse, WantedRating
from traces.store import TraceStore

data = command_group("Prepare, check and push training data.")
data.command("push")(push_command)


@data.command("prepare")
def prepare_command(
    domain: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOMAIN...", help="`bench domains` lists them; none is needed with `--traces`."
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="Rows of your own, in any common format.")
    ] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Only the domain's own questions, no other sources.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", "--out", help="Of the data set. [default: DOMAIN]")
    ] = None,
    from_kb: Annotated[
        bool, typer.Option("--from-kb", help="Also what `--model` writes about the knowledge base.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            envvar="BENCH_MODEL",
            help="What writes; with `--traces` what learns: its template decides.",
        ),
    ] = None,
    passages: Annotated[
        int | None, typer.Option(min=1, help="Write about at most so many. [default: all]")
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Check what is written by its words alone.")
    ] = False,
    with_context: Annotated[
        bool, typer.Option("--with-context", help="Also each question with passages before it.")
    ] = False,
    distractors: Annotated[
        int, typer.Option(min=1, help="Passages without the answer, per question.")
    ] = 2,
    traces: Annotated[
        bool, typer.Option("--traces", help="Traces of agents: a row per turn of the user.")
    ] = False,
    rating: TraceRating = WantedRating.NOT_BAD,
    unmarked: Unmarked = False,
    solved: Solved = False,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the traces that become questions.")
    ] = 0.0,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="A turn of a trace that is longer is left out.")
    ] = TrainingArguments.max_tokens,
    seed: Annotated[int, typer.Option(help="Of the choice of rows.")] = 0,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make the training data of a domain: clean, without copies and leaks, and split.

    Its training questions, its declared sources turned into questions, files of your own, and
    traces. What is written from a knowledge base is kept: the same command goes on where it
    stopped.

    Example: bench data prepare biology --file notes.jsonl
    """
    criteria = TraceCriteria(rating, unmarked, solved)
    if not traces and (criteria != TraceCriteria() or hold_out):
        what = "`--rating`, `--unmarked`, `--solved` and `--hold-out` are for traces"
        raise Misuse(what, "add `--traces`")
    if not domain:
        if not traces:
            raise Misuse("no domain is named", "`bench domains` lists them")
        domain = [name if name is not None else "traces"]
    if name is not None and len(domain) > 1:
        raise Misuse("`--name` is for one data set", "prepare one domain after another")
    domains = load_domains(workspace)
    files = tuple(file if file is not None else ())
    contexts = ContextSettings(distractors, seed=seed) if with_context else None
    synthesis = SynthesisOptions(model, passages, not unchecked, seed) if from_kb else None
    indexes = BenchmarkIndexes(print_note)
    source = _trace_source(model, criteria, max_tokens, hold_out) if traces else None
    for each in domain:
        # With rows of one's own, a domain needs no domain.yaml.
        if each not in domains and not (files or from_kb or source is not None):
            raise NoSuch("domain", each, domains, "bench domains")
        declared = domains.get(each, bare_domain(each, workspace))
        chosen = replace(declared, sources=()) if own else declared
        folder = Workspace(workspace).data_set(name if name is not None else each)
        unrolled = _unrolled(workspace, each, source) if source is not None else None
        rows = unrolled.rows if unrolled is not None else ()
        spec = DatasetSpec(chosen, domains, folder, data, files, own, size, seed, rows)
        tasks = tasks_to_learn(spec, print_note)
        synthetic = SyntheticRows(
            contexts=questions_with_passages(chosen, tasks, workspace, contexts)
            if contexts is not None
            else None,
            book=_synthetic_textbook(each, workspace, synthesis, indexes.of(spec))
            if synthesis is not None
            else None,
        )
        if not as_json:
            show_synthetic_rows(synthetic)
            if unrolled is not None:
                show_trace_rows(unrolled)
        made = build_dataset(spec, tasks, indexes, print_note, synthetic)
        counts = unrolled.as_json() if unrolled is not None else {}
        if unrolled is not None:
            counts |= _write_questions(unrolled, made, as_json=as_json)
        if as_json:
            shown = {**made.as_json(), **synthetic.as_json(), **counts}
            print_json(shown)
        else:
            _show(made)


@data.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="A file of training rows or questions.")],
    as_json: Json = False,
) -> None:
    """Say how the first rows of a file are understood, and per line what is wrong with it.

    Training rows and questions, as `bench train`, `bench data prepare` and `bench run` read them.

    Example: bench data check notes.jsonl
    """
    check = check_rows(file)
    if as_json:
        problems = [asdict(each) for each in check.problems]
        shown = {"file": str(file), "understood": check.understood, "problems": problems}
        print_json(shown)
    else:
        for row in check.understood:
            for line in _row_lines(row):
                print(printable(line))
        for each in check.problems:
            print(printable(f"{file}:{each.line}: {each.what}"))
        n = len(check.problems)
        print(f"{n} problem{'s' if n > 1 else ''}" if n else "no problems")
    if check.problems:
        raise typer.Exit(1)


def _row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    """A row as it was understood: its form, and each of its values in a line."""
    yield f"line {row['line']}: {row['format']}"
    if row.get("rows") == []:
        yield "  nothing to learn"
    for part in row.get("rows", [{key: row[key] for key in list(row)[2:]}]):
        for key, value in part.items():
            if key == "messages":
                for turn in value:
                    yield f"  {turn['role']}: {one_line(turn['content'], 90)}"
            else:
                shown = " | ".join(value) if isinstance(value, list) else str(value)
                yield f"  {key}: {one_line(shown, 90)}"


def _trace_source(
    model: str | None, criteria: TraceCriteria, max_tokens: int, hold_out: float
) -> TraceSource:
    learner = engine_source(model if model is not None else DEFAULT_MODEL)
    _, tokenizer = load_config_and_tokenizer(learner, device="cpu")
    return TraceSource(criteria, tokenizer, max_tokens, hold_out)


def learn_traces(
    job: TrainingJob, use: TraceUse, model: str, *, as_json: bool
) -> tuple[TrainingJob, dict[str, Any]]:
    """The training with the workspace's traces as the rows of its domain, and what they are.

    Their data set is named by its content, so that other traces make another one.
    """
    source = _trace_source(model, use, job.settings.max_tokens, use.hold_out)
    unrolled = _unrolled(job.workspace, job.name, source)
    digest = sha256(row_lines(unrolled.rows).encode("utf-8", "replace")).hexdigest()[:8]
    folder = Workspace(job.workspace).data_set(f"{job.name}-traces-{digest}")
    bare = bare_domain(job.name, job.workspace)
    spec = DatasetSpec(bare, job.domains, folder, job.mirror, own=job.own, rows=unrolled.rows)
    if not as_json:
        show_trace_rows(unrolled)
    made = build_dataset(spec, (), BenchmarkIndexes(print_note), print_note)
    counts = unrolled.as_json() | _write_questions(unrolled, made, as_json=as_json)
    return replace(job, data={job.name: folder.name}), {**counts, "path": str(folder)}


def _write_questions(
    unrolled: TraceRows, made: PreparedDataset, *, as_json: bool
) -> dict[str, str]:
    if not unrolled.questions:
        return {}
    path = str(unrolled.write_questions(made.path))
    if not as_json:
        told = copyable(f"bench run --task {shlex.quote(path)} --chat")
        print(f"held out: {told}")
    return {"questions_file": path}


def _unrolled(workspace: Path, domain: str, source: TraceSource) -> TraceRows:
    with activity("unrolling traces"):
        damaged = Counter[str]()
        made = trace_rows(TraceStore(workspace).all(damaged_note(damaged)), domain, source)
        return replace(made, left_out=made.left_out + damaged)


def _synthetic_textbook(
    domain: str, workspace: Path, options: SynthesisOptions, asked: QuestionIndex
) -> SyntheticTextbook:
    """Write a textbook, showing progress; Ctrl-C becomes an error that says how to go on."""
    try:
        with Stages(domain) as stages:
            return synthetic_textbook(domain, workspace, options, asked, stages)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped; what was written about `{domain}` is stored",
            "repeat the same command: it goes on where it stopped",
        ) from error


def _show(made: PreparedDataset) -> None:
    print(
        f"{made.domain}: {made.train:,} rows to train on, {made.validation:,} for validation, "
        f"{made.held_out:,} held out; {made.duplicates:,} copies and {made.leaked:,} leaks removed"
    )
    print(f"{made.path} (sha256 {made.sha256[:16]})")
