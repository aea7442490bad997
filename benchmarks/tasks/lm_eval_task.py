"""Task of lm-eval by its name: prompts rendered, and replies scored, by lm-eval's own code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.scoring.scorer import BY_REFERENCE
from benchmarks.tasks.base import MAX_TOKENS, NoSplit, Task, TaskRequest, data_digest, with_ids
from benchmarks.tasks.lm_eval_scorer import lm_eval_scorer, scored_metric
from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from domainlift.hub_datasets import reason
from domainlift.types import Question
from engines.base import Mode

MODES = {"multiple_choice": Mode.CLOZE, "generate_until": Mode.GENERATE}
FEWSHOT_SEED = 1234  # lm-eval's own default, so that the same examples are drawn
_NAME = re.compile(rb"^[\"']?(?:task|group)[\"']?[ \t]*:[ \t]*[\"']?([^\s\"'#\[]+)", re.MULTILINE)


def load_lm_eval_task(request: TaskRequest) -> Task:
    """Load a task of lm-eval by its name, or by the path of its YAML file."""
    if find_spec("lm_eval") is None:
        raise BenchError("lm-eval is not installed", 'pip install "domainlift[lm-eval]"')
    path = _yaml_path(request.rest)
    config = read_config(path)
    kind = _supported(request.rest, config)
    built = _build(request, path, config)
    _refuse_several(request.rest, built, kind)
    docs = list(_docs(built, request))
    with _templates_compiled_once():
        questions = with_ids(request.name, list(_drafts(built, docs, request)))
    generated = kind == "generate_until"
    docs_by_id = dict(zip((question.id for question in questions), docs, strict=True))
    return Task(
        name=request.name,
        domain=request.domain,
        questions=questions,
        examples=(),
        description="",
        mode=MODES[kind],
        modes=frozenset({MODES[kind]}),
        shots=built.config.num_fewshot or 0,
        digest=data_digest(questions),
        stop=_stop(built) if generated else (),
        max_tokens=_max_tokens(built) if generated else 0,
        prerendered=True,
        scorer=lm_eval_scorer(request.rest, built, config, docs_by_id)
        if generated
        else BY_REFERENCE,
    )


@cache
def yaml_files() -> Mapping[str, Path]:
    """Map every name that lm-eval defines to its file, by one line of each, without parsing.

    Parsing all of them, as its TaskManager does, takes half a minute.
    """
    spec = find_spec("lm_eval")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((Path(folder) / "tasks").rglob("*.yaml")):
            for name in _NAME.findall(path.read_bytes())[:1]:
                files.setdefault(name.decode("utf-8", "replace"), path)
    return files


def read_config(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a task's YAML with what it includes; functions stay names and nothing is run.

    `including` are the files that include this one, from the first on.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows lm-eval's one tag."""

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    try:
        config = Loader(path.read_bytes()).get_single_data()
    except OSError as error:
        raise Malformed(path, f"cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        raise Malformed(path, "no valid YAML", line=line) from None
    if not isinstance(config, dict):
        raise Malformed(path, "is no task of lm-eval", hint="it needs `task: NAME`")
    included = config.pop("include", None) or []
    others = [included] if isinstance(included, str) else included
    if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
        raise Malformed(path, "`include` is neither a file nor a list of files")
    above = (*including, path.resolve())
    merged: dict[str, Any] = {}
    for other in others:
        if (path.parent / other).resolve() in above:
            raise Malformed(path, f"includes `{other}`, which includes it again")
        merged |= read_config(path.parent / other, above)
    return merged | config


def _yaml_path(name: str) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    if name not in yaml_files():
        raise NoSuch("lm-eval task", name, yaml_files(), see="lm-eval ls tasks")
    return yaml_files()[name]


def _supported(name: str, config: Mapping[str, Any]) -> str:
    """Return the output type, or say why this task cannot be scored here."""
    kind = str(config.get("output_type", "generate_until"))
    generated = kind == "generate_until"
    settings = config.get("generation_kwargs") or {}
    samples = bool(settings.get("do_sample")) and int(config.get("repeats", 1)) > 1
    obstacles = {
        "is a group": "group" in config,
        "is written as a Python class": "class" in config,
        f"has output type `{kind}`": kind not in MODES,
        "is scored by Python code of its own": not generated and "process_results" in config,
        "runs the model's code": bool(config.get("unsafe_code")),
        "shows images or sounds": bool({"doc_to_image", "doc_to_audio"} & config.keys()),
        "runs its data set's code": _runs_remote_code(config),
        f"draws {config.get('repeats')} replies to a question at random": generated and samples,
        f"is scored by {_metrics(config)}, which say neither right nor wrong of one reply": (
            generated and scored_metric(config) is None
        ),
    }
    obstacle = next((words for words, applies in obstacles.items() if applies), None)
    if obstacle is not None:
        known = " and ".join(f"`{kind}`" for kind in MODES)
        raise Misuse(f"lm-eval task `{name}` {obstacle}", f"single {known} tasks can be run here")
    return kind


def _metrics(config: Mapping[str, Any]) -> str:
    names = [f"`{each.get('metric')}`" for each in config.get("metric_list") or ()]
    return ", ".join(names) or "lm-eval's default metrics"


def _runs_remote_code(config: Mapping[str, Any]) -> bool:
    from datasets import __version__

    trusted = (config.get("dataset_kwargs") or {}).get("trust_remote_code", False)
    # From version 4 on, `datasets` runs no such code whatever the configuration says.
    return bool(trusted) and int(__version__.partition(".")[0]) < 4


def _build(request: TaskRequest, path: Path, config: Mapping[str, Any]) -> Any:
    from lm_eval.tasks import TaskManager

    try:
        loaded = TaskManager(include_defaults=False).load(str(path))
        (built,) = loaded["tasks"].values()
    except ImportError as error:
        raise Misuse(
            f"lm-eval task `{request.rest}` needs the module `{error.name}`, which is not there",
            "lm-eval cannot run it here either: install what its code needs, or leave it out",
        ) from error
    except Exception as error:  # whatever the data's library or the task's own code raises
        raise BenchError(
            f"cannot load lm-eval task `{request.rest}` ({reason(error)})",
            f"its data `{config.get('dataset_path')}` comes from the hub: go online once",
        ) from error
    built.set_fewshot_seed(FEWSHOT_SEED)
    return built


def _refuse_several(name: str, built: Any, kind: str) -> None:
    """Misuse of several prompts per question, and of several right options."""
    options = built.multiple_target if kind == "multiple_choice" else 0
    for words, several in (("inputs", built.multiple_input), ("answers", options)):
        if several:
            hint = "only tasks with one prompt and one right answer per question can be run here"
            raise Misuse(f"lm-eval task `{name}` has several {words} per question", hint)


def _docs(built: Any, request: TaskRequest) -> Any:
    if request.split == "test":
        return built.eval_docs
    train = request.split == "train"
    docs = built.training_docs() if train else built.validation_docs()
    if docs is None:
        raise NoSplit(
            f"lm-eval task `{request.rest}` has no {request.split} split", "use split test"
        )
    return docs


def _drafts(built: Any, docs: Sequence[Any], request: TaskRequest) -> Iterator[Question]:
    shots = built.config.num_fewshot or 0
    for number, doc in enumerate(docs):
        prefix = built.doc_to_prefix(doc)
        context = built.fewshot_context(doc, num_fewshot=shots, gen_prefix=prefix)
        requests = built.construct_requests(doc, context, metadata=(request.rest, number, 1))
        text, options, answer = _rendered(built, doc, requests)
        yield Question("", request.domain, request.name, text, options, answer, split=request.split)


def _rendered(built: Any, doc: Any, requests: Any) -> tuple[str, tuple[str, ...], int | str]:
    target = built.doc_to_target(doc)
    if built.OUTPUT_TYPE == "generate_until":
        return requests.args[0], (), _reference(built, doc, target)
    choices = built.doc_to_choice(doc)
    context = requests[0].args[0]
    text = context.rstrip()
    # lm-eval, too, counts the spaces at the end of the context to the continuation.
    spaces = context[len(text) :]
    options = tuple(spaces + request.args[1] for request in requests[: len(choices)])
    answer = target if isinstance(target, int) else choices.index(target)
    return text, options, answer


def _reference(built: Any, doc: Any, target: Any) -> str:
    """The first right answer, without what the task's own metric ignores (GSM8K's solution)."""
    if built.config.doc_to_choice is not None and isinstance(target, int):
        target = built.doc_to_choice(doc)[target]
    text = str((target or [""])[0] if isinstance(target, list) else target)
    for metric in built.config.metric_list or ():
        for pattern in metric.get("regexes_to_ignore") or ():
            text = re.sub(pattern, "", text)
    return text.strip()


def _stop(built: Any) -> tuple[str, ...]:
    until = (built.config.generation_kwargs or {}).get("until") or ()
    return (until,) if isinstance(until, str) else tuple(until)


def _max_tokens(built: Any) -> int:
    given = built.config.generation_kwargs or {}
    return int(given.get("max_gen_toks") or given.get("max_tokens") or MAX_TOKENS)


@contextmanager
def _templates_compiled_once() -> Iterator[None]:
    # lm-eval compiles a task's template anew for every question, fifty times the cost of filling
    # it in; the compiled template is the same object, so the prompts are the same.
    from lm_eval.utils import env

    env.from_string = cache(env.from_string)
    try:
        yield
    finally:
        del env.from_string
