"""Real models: what they know, what passages and adapters add, and at what cost.

    python -m perf.real handbook --model smollm2
    BENCH_DATA=FOLDER python -m perf.real forms --model FOLDER --dtype bfloat16 --lm-eval 100
    BENCH_DATA=FOLDER python -m perf.real passages --model FILE.gguf --domains biology
    BENCH_DATA=FOLDER python -m perf.real adapter --model smollm2 --minutes 15
    python -m perf.real engine --model FILE.gguf
    python -m perf.real gpu

Each row is one command and prints its tables; docs/real.md has them filled in. Runs, knowledge
bases and adapters are those of `bench` in `--workspace`, so that a repeated command goes on where
it stopped. Questions are the same sample for all forms: seed 0, spread evenly over the domains.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.store import Run, RunStore
from benchmarks.scoring.score import debiased_choice
from benchmarks.tasks.registry import load_task
from domainlift.sampling import stratified
from domainlift.stats.intervals import wilson
from domainlift.stats.paired import paired
from domainlift.workspace import Workspace
from engines.local.loading import pick_device
from finetune.data.row_io import load_rows, row_lines
from knowledge_bases.domains import load_domains
from perf.commands import bench, bench_json, gain, heading, line, rate
from perf.gguf import compare_engines
from perf.lm_eval_tasks import lm_eval_scores, lm_eval_task
from perf.shapes import mirror

#: Questions of each set; of MMLU one subject per domain, those without long passages.
SETS = {
    "MMLU": (
        "mmlu:high_school_biology",
        "mmlu:prehistory",
        "mmlu:computer_security",
        "mmlu:elementary_mathematics",
        "mmlu:philosophy",
    ),
    "ARC-Easy": ("arc:easy",),
}
#: MMLU's tasks of the domains whose textbooks and records give passages.
PROBED = {
    "biology": ("mmlu:high_school_biology", "mmlu:college_biology"),
    "history": (
        "mmlu:high_school_us_history",
        "mmlu:high_school_world_history",
        "mmlu:high_school_european_history",
    ),
    "security": ("mmlu:computer_security",),
}
_FORMS = (
    ("--scoring", "letter", "--shots", "0"),
    ("--scoring", "cloze", "--shots", "0"),
    ("--scoring", "letter", "--shots", "5"),
    ("--scoring", "cloze", "--shots", "5"),
    ("--scoring", "letter", "--shots", "0", "--chat"),
)
#: What lm-eval has templates for, as our form, whether it is cloze, and its examples.
_LM_EVAL = {
    "MMLU": (("letter/0", False, 0), ("letter/5", False, 5), ("cloze/0", True, 0)),
    "ARC-Easy": (("cloze/0", True, 0), ("cloze/5", True, 5)),
}
_BFLOAT16 = ("--device", "cuda", "--dtype", "bfloat16", "--shape", "3b")
_GPU = (
    ("perf.training", *_BFLOAT16, "--layers", "36", "--prompt", "448", "504"),
    ("perf.training", *_BFLOAT16, "--layers", "36", "--prompt", "1984", "2040", "--rows", "4"),
    ("perf.scoring", *_BFLOAT16, "--per-subject", "24", "--batches", "8", "16", "32"),
)
Outcomes = dict[str, bool]


def main() -> None:
    """Measure one row."""
    parser = argparse.ArgumentParser(description="real models")
    parser.add_argument("row", choices=_ROWS)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--limit", type=int, default=300, help="questions of each set")
    parser.add_argument("--lm-eval", type=int, default=0, help="so many also by lm-eval")
    parser.add_argument("--domains", nargs="+", default=list(PROBED))
    parser.add_argument("--form", nargs="+", default=["letter", "5"], help="scoring and examples")
    parser.add_argument("--passages", type=int, default=3, help="at most so many a question")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    settings = parser.parse_args()
    _ROWS[settings.row](settings)


def _handbook(chosen: argparse.Namespace) -> None:
    """The whole loop on the handbook, and every treatment on the suite's test questions."""
    start = time.perf_counter()
    found = bench_json(chosen.workspace, "improve", "--model", chosen.model, "--suite", "handbook")
    minutes = (time.perf_counter() - start) / 60
    asked = ("run", "--model", chosen.model, "--suite", "handbook")
    label = found["form"]["label"]
    form = _words(label) if label else ()
    columns = {"base": bench_json(chosen.workspace, *asked)}
    columns["form"] = bench_json(chosen.workspace, *asked, *form)
    adapters = ("--adapter", "own") if found["domains"]["handbook"]["lora"] is not None else ()
    treated = bench_json(chosen.workspace, *asked, *form, *adapters, "--rag")
    columns |= {name: each for name, each in treated["treatments"].items() if name != "base"}
    if found["plan"]:
        plan = ("--plan", str(found["plan"]))
        columns["ensemble"] = bench_json(chosen.workspace, *asked, *form, *plan)
    print(
        f"{chosen.model}: {found['verdict']} after {minutes:.1f} minutes; form {label or 'own'}\n"
    )
    print(heading("domain", "n", *columns))
    for domain, base in columns["base"]["domains"].items():
        cells = (rate(each["domains"][domain]) for each in columns.values())
        print(line(domain, base["n"], *cells))


def _words(label: str) -> tuple[str, ...]:
    """The options of `bench run` that ask in a form: of `cloze/5`."""
    name, _, shots = label.partition("/")
    scoring = {"chat": ("--scoring", "letter", "--chat")}.get(name, ("--scoring", name))
    return (*scoring, "--shots", shots)


def _forms(chosen: argparse.Namespace) -> None:
    """Every form on the same questions, and the one that `auto` takes without seeing them."""
    for title in chosen.sets:
        tasks = SETS[title]
        asked = _asked(chosen, tasks)
        runs = [bench_json(chosen.workspace, *asked, *form) for form in _FORMS]
        outcomes: dict[str, Outcomes] = {}
        letters: dict[str, str] = {}
        for found in runs:
            own = _outcomes(RunStore(chosen.workspace).get(found["run"]))
            outcomes |= own
            letters |= {label: _letters(found) for label in own if "debiased" not in label}
        auto = bench_json(chosen.workspace, *asked, "--scoring", "auto")["form"]
        tried = auto["tried"]
        n = len(next(iter(outcomes.values())))
        print(f"\n{chosen.model}, {title}, n = {n}\n")
        print(heading("form", "accuracy", "on validation questions", "letters chosen"))
        for label, right in outcomes.items():
            seen = f"{tried[label]['accuracy']:.3f} (n {tried[label]['n']})"
            print(line(label, _rate(right), seen, letters.get(label, "")))
        _print_choice(f"{auto['name']}/{auto['shots']}", outcomes)
        if chosen.lm_eval:
            _print_lm_eval(chosen, title, tasks, outcomes)


def _asked(chosen: argparse.Namespace, tasks: Sequence[str]) -> tuple[str, ...]:
    named = [word for task in tasks for word in ("--task", task)]
    model = ("--model", chosen.model, "--dtype", chosen.dtype)
    return ("run", *model, *named, "--limit", str(chosen.limit))


def _outcomes(run: Run) -> dict[str, Outcomes]:
    """Whether each question is right, by form: with letters also after dividing their prior out."""
    profile = evaluate_run(run)
    form, prior = profile.form, profile.letter_prior
    answered = [record for record in run.records() if record.correct is not None]
    if form is None:
        raise ValueError(f"run `{run.manifest.run}` tells no form")
    found = {f"{form.name}/{form.shots}": {each.id: bool(each.correct) for each in answered}}
    if prior is not None and form.name == "letter":
        gold = {question.id: question.answer for question in run.questions()}
        found[f"letter-debiased/{form.shots}"] = {
            each.id: debiased_choice(each.logprobs, each.n_bounded, prior) == gold[each.id]
            for each in answered
        }
    return found


def _letters(found: Mapping[str, Any]) -> str:
    counts = found["overall"]["letters"]
    return " ".join(f"{k} {n}" for k, n in counts["chosen"].items()) if counts else ""


def _rate(outcomes: Outcomes) -> str:
    right, n = sum(outcomes.values()), len(outcomes)
    interval = wilson(right, n)
    return rate({"accuracy": right / n, "interval": interval})


def _print_choice(picked: str, outcomes: Mapping[str, Outcomes]) -> None:
    """What was chosen on other questions, against the best in hindsight."""
    best = max(outcomes, key=lambda label: sum(outcomes[label].values()))
    print(
        f"\nauto takes {picked}; the best in hindsight is {best}: {_change(outcomes, best, picked)}"
    )


def _change(outcomes: Mapping[str, Outcomes], before: str, after: str) -> str:
    ids = list(outcomes[before])
    found = paired(
        [outcomes[before][each] for each in ids], [outcomes[after][each] for each in ids], ids
    )
    shown = {"difference": found.difference, "interval": found.interval}
    return f"{gain(shown)}, {found.gains} gained, {found.losses} lost, p {found.p:.3f}"


def _print_lm_eval(
    chosen: argparse.Namespace, title: str, tasks: Sequence[str], outcomes: Mapping[str, Outcomes]
) -> None:
    """lm-eval's HF backend with its own templates on some of the same questions."""
    from lm_eval.models.huggingface import HFLM

    device = pick_device("auto")
    lm = HFLM(pretrained=chosen.model, dtype=chosen.dtype, device=device, batch_size=4)
    loaded = [load_task(name, data=mirror(), domains=load_domains()) for name in tasks]
    sample = stratified([q for task in loaded for q in task.questions], chosen.lm_eval, seed=0)
    print(f"\n{heading('form', 'n', 'ours', 'lm-eval', 'both right or both wrong')}")
    for label, cloze, shots in _LM_EVAL[title]:
        theirs: Outcomes = {}
        for task in loaded:
            own = [question for question in sample if question.task == task.name]
            theirs |= lm_eval_scores(lm, lm_eval_task(task, own, cloze=cloze), shots)
        ours = {key: outcomes[label][key] for key in theirs}
        same = sum(ours[key] == theirs[key] for key in theirs)
        cells = (_rate(ours), _rate(theirs), same)
        print(line(label, len(theirs), *cells), flush=True)


def _passages(chosen: argparse.Namespace) -> None:
    """MMLU without and with passages of real textbooks in one form, gated and all let in."""
    scoring, shots = chosen.form
    form = ("--scoring", scoring, "--shots", shots, "--passages", str(chosen.passages))
    titles = ("n", "base", "passages", "difference", "gained", "lost", "let in", "leaked")
    print(heading("domain", "gate", *titles))
    for domain in chosen.domains:
        if not (Workspace(chosen.workspace).knowledge_bases / domain).is_dir():
            bench(chosen.workspace, "kb", "build", domain)
        for gate in ("auto", "off"):
            asked = (*_asked(chosen, PROBED[domain]), *form, "--rag", domain, "--rag-gate", gate)
            found = bench_json(chosen.workspace, *asked)
            score, change = (found[key][domain] for key in ("domains", "paired"))
            base = found["base"]["domains"][domain]
            told = (change["gains"], change["losses"], score["let_in"], score["leaked"])
            cells = (gate, change["n"], rate(base), rate(score), gain(change), *told)
            print(line(domain, *cells), flush=True)


def _adapter(chosen: argparse.Namespace) -> None:
    """LoRA on ARC's training rows against base, best form and a placebo of the same rows."""
    workspace, model = chosen.workspace, ("--model", chosen.model)
    folder = Workspace(workspace).data_set("science")
    if not folder.is_dir():
        bench(workspace, "data", "prepare", "science")
    placebo = Workspace(workspace).data_set("placebo")
    placebo.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        rows = load_rows(folder, split)
        answers = Random(0).sample([row.completion for row in rows], len(rows))
        made = [replace(row, completion=one) for row, one in zip(rows, answers, strict=True)]
        (placebo / f"{split}.jsonl").write_text(row_lines(made), encoding="utf-8")
    asked = _asked(chosen, SETS["ARC-Easy"])
    outcomes = {}
    budget = ("--budget-minutes", str(chosen.minutes))
    for name, source in (("placebo", "placebo"), ("adapter", "science")):
        bench(workspace, "train", "science", *model, "--data-set", source, *budget)
        found = bench_json(workspace, *asked, "--adapter", "science")
        run = RunStore(workspace).get(found["run"])
        outcomes[name] = next(iter(_outcomes(run).values()))
        base = RunStore(workspace).get(found["base"]["run"])
        outcomes["base"] = next(iter(_outcomes(base).values()))
    best = bench_json(workspace, *asked, "--scoring", "auto")["run"]
    outcomes["best form"] = next(iter(_outcomes(RunStore(workspace).get(best)).values()))
    print(heading("", "n", "accuracy", "the adapter's gain over it"))
    for name in ("base", "best form", "placebo", "adapter"):
        change = _change(outcomes, name, "adapter") if name != "adapter" else ""
        print(line(name, len(outcomes[name]), _rate(outcomes[name]), change))


def _engine(chosen: argparse.Namespace) -> None:
    """The GGUF engine against the dequantised weights and llama-server."""
    compare_engines(chosen.model, "--questions", str(chosen.limit))


def _gpu(_: argparse.Namespace) -> None:
    """Training, scoring and memory of Qwen2.5-3B's shape, under eight minutes on one card."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: no CUDA device here; what it takes of a processor: `-m perf.training`")
    for words in _GPU:
        print(f"\n{' '.join(words)}\n", flush=True)
        subprocess.run([sys.executable, "-W", "ignore", "-m", *words], check=True)


_ROWS = {
    "handbook": _handbook,
    "forms": _forms,
    "passages": _passages,
    "adapter": _adapter,
    "engine": _engine,
    "gpu": _gpu,
}

if __name__ == "__main__":
    main()
