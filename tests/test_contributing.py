"""CONTRIBUTING.md is true: the places that it names exist, and each extension works as it says."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.app import main
from benchmarks.tasks import registry as task_registry
from benchmarks.tasks.base import Task, TaskRequest, data_digest, with_ids
from benchmarks.tasks.registry import load_task
from domainlift.types import Passage, Question, Treatment
from engines import registry as engine_registry
from engines.base import Answer, EngineInfo, Mode, Request
from engines.registry import ENGINES, EngineEntry, EngineOptions, open_engine
from ensemble.plan import TREATMENTS, TreatmentEntry, read_plan
from ensemble.router.decision import RouteDecision
from ensemble.treatment import PlanResources, treat_by_plan
from finetune.export.registry import TARGETS
from rag.corpus.readers.base import Section, SourceFile
from rag.corpus.readers.registry import READERS
from rag.treatment import Budget, QuestionSignals
from traces.formats.registry import FORMATS, TraceFormat
from traces.trace import Trace, TraceStatus, read_messages

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACES = TEXT.split("## Places to touch")[1]
SECTIONS = dict(re.findall(r"^### (.+?)\n(.+?)(?=^### |\Z)", PLACES, re.M | re.S))
LINE = re.compile(r"^\d\. `([\w/]+\.py)`, `([A-Z]+)`: the line `(.+?)`[.,]", re.M)


def toy(name: str) -> str:
    return f"{__name__}:{name}"


class TestPage:
    def test_six_extensions_are_described(self) -> None:
        assert [name.split()[-1] for name in SECTIONS] == [
            *("engine", "treatment", "task", "reader", "kind", "traces"),
        ]

    @pytest.mark.parametrize("name", SECTIONS)
    def test_every_registry_and_its_line_are_there(self, name: str) -> None:
        [(file, variable, line)] = LINE.findall(SECTIONS[name])
        module = import_module(file.removesuffix(".py").replace("/", "."))
        assert getattr(module, variable)
        table = (ROOT / file).read_text(encoding="utf-8").split(f"\n{variable}", 1)[1]
        assert line in table.split("\n}\n")[0].split("\n)\n")[0]

    def test_every_file_is_there(self) -> None:
        for path in re.findall(r"`([\w./]+/[\w.]*)`", TEXT):
            if path.startswith((".venv/", "runs/", "plans/", "gates/")):
                continue
            known = Path(path).parent if "NAME" in path else Path(path)
            assert (ROOT / known).exists(), path

    def test_every_target_of_make_is_there(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in re.findall(r"\bmake ([a-z-]+)", TEXT):
            assert re.search(rf"^{target}:", makefile, re.M), target

    def test_every_function_and_constant_of_a_stored_schema_is_there(self) -> None:
        rows = TEXT.split("## Stored schemas")[1].split("\n\n")[1].splitlines()[2:]
        assert len(rows) >= 10
        for row in rows:
            files = [ROOT / file for file in re.findall(r"`([\w/]+\.py)`", row)]
            code = "".join(file.read_text(encoding="utf-8") for file in files)
            for name in re.findall(r"`([A-Za-z_]+)`", row):
                assert re.search(rf"^(def |){name}\b", code, re.M), name


class ToyEngine:
    """Likes the option of which the text is longest."""

    forward_tokens = 0
    info = EngineInfo("toy", "toy:x", "digest", None, frozenset(Mode), False)

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        for request in requests:
            yield Answer(request.id, logprobs=tuple(-1 / len(o) for o in request.options))

    def count(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        pass


def open_toy(name: str, options: EngineOptions) -> ToyEngine:
    return ToyEngine()


def test_an_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = EngineEntry("toy", r"toy:.*", toy("open_toy"), served=True)
    monkeypatch.setattr(engine_registry, "ENGINES", (entry, *ENGINES))
    assert isinstance(open_engine("toy:x"), ToyEngine)
    command = ["run", "--model", "toy:x", "--suite", "demo", "--limit", "5"]
    assert main([*command, "--workspace", str(tmp_path)]) == 0
    assert "toy:x on demo" in capsys.readouterr().out


class _Toys:
    tasks = ("toy",)
    domains: dict[str, str] = {}  # noqa: RUF012

    def load(self, request: TaskRequest) -> Task:
        draft = Question("", request.domain, request.name, "1 + 1 =", ("2", "3"), 0)
        questions = with_ids(request.name, [draft])
        mode, digest = Mode.LETTER, data_digest(questions)
        return Task("toy", request.domain, questions, (), "", mode, frozenset({mode}), 0, digest)


TOYS = _Toys()


def test_a_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(task_registry.BENCHMARKS, "toy", toy("TOYS"))
    task = load_task("toy", data=None, domains={})
    assert [question.text for question in task.questions] == ["1 + 1 ="]
    command = ["run", "--model", "tiny", "--task", "toy", "--workspace", str(tmp_path)]
    pytest.importorskip("torch")
    assert main(command) == 0


def read_toy(file: SourceFile) -> Iterator[Section]:
    yield Section(file.local_path.read_text(encoding="utf-8")[::-1])


def test_a_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    from rag.corpus.documents import read_documents

    monkeypatch.setitem(READERS, ".toy", toy("read_toy"))  # type: ignore[arg-type]
    path = tmp_path / "a.toy"
    path.write_text("olleh", encoding="utf-8")
    [document] = read_documents(SourceFile("a.toy", path, ""))
    assert document.page_content == "hello"


def export_toy(job: Any, build: Path) -> Any:
    from finetune.export.base import ExportResult

    (build / "toy.txt").write_text(job.adapter.name, encoding="utf-8")
    return ExportResult(None, ("cat toy.txt",))


def test_an_export_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    from finetune.export import exporting

    monkeypatch.setitem(TARGETS, "toy", toy("export_toy"))  # type: ignore[arg-type]
    command = ["export", "biology", "--workspace", str(tmp_path), "--to"]
    assert main([*command, "toi"]) == 2
    assert "toy" in capsys.readouterr().err
    main([*command, "toy"])
    assert "kind of export" not in capsys.readouterr().err

    card = SimpleNamespace(base="tiny")
    adapter: Any = SimpleNamespace(name="biology/v0001", folder=tmp_path, digest="d", card=card)
    job = SimpleNamespace(adapter=adapter, base_digest="b")
    monkeypatch.setattr(exporting, "ExportJob", lambda *_: job)
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    made = exporting.export_adapter(adapter, "tiny", "toy", tmp_path / "out")
    assert made.commands == ("cat toy.txt",)
    assert (tmp_path / "out" / "toy.txt").read_text(encoding="utf-8") == "biology/v0001"


def toy_step(question: Question, treatment: Treatment) -> Treatment:
    return Treatment((Passage(f"hint: {question.text}"),), reason="toy", route=treatment.route)


def test_a_treatment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(TREATMENTS, "toy", TreatmentEntry(step=toy("toy_step")))  # type: ignore[arg-type]
    path = tmp_path / "plan.yaml"
    path.write_text(
        "schema: 1\nmodel: tiny\ndigest: d\ndomains:\n- name: biology\n  treatment: toy\n",
        encoding="utf-8",
    )
    plan = read_plan(path)
    assert plan.treated == ("biology",)
    questions = [Question(n, "biology", "t", n, ("x", "y"), 0) for n in ("one", "two")]
    routes = [RouteDecision("biology", "keywords"), RouteDecision(None, "keywords")]
    resources = PlanResources({}, {}, Budget(len))
    signals = QuestionSignals({}, {})
    treated, base = treat_by_plan(questions, routes, plan.domains, resources, signals)
    assert [passage.text for passage in treated.passages] == ["hint: one"]
    assert (treated.route, treated.reason, base.passages) == ("biology", "toy", ())


def read_toy_rows(rows: Any) -> Iterator[Any]:
    for row in rows:
        messages = [{"role": "user", "content": row.fields["toy"]}]
        yield Trace("", "", "", read_messages(messages), status=TraceStatus.DONE)


def toy_rows(trace: Trace) -> Iterator[dict[str, Any]]:
    yield {"toy": trace.messages[0]["content"]}


def test_a_format_of_traces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = TraceFormat("toy", toy("read_toy_rows"), toy("toy_rows"))
    monkeypatch.setitem(FORMATS, "toy", entry)
    (tmp_path / "in.jsonl").write_text('{"toy": "How warm?"}\n')
    there = ["--workspace", str(tmp_path / "w")]
    assert main(["trace", "import", str(tmp_path / "in.jsonl"), *there]) == 0
    out = tmp_path / "out.jsonl"
    assert main(["trace", "export", str(out), "--to", "toy", *there]) == 0
    assert out.read_text() == '{"toy": "How warm?"}\n'
