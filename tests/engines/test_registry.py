from __future__ import annotations

from pathlib import Path

import pytest

from domainlift.errors import Misuse
from domainlift.registry import load_object
from engines import registry


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("tiny", "tiny"),
        ("http://127.0.0.1:8000/v1#m", "openai"),
        ("https://", "openai"),
        ("HTTP://127.0.0.1:8000/v1#m", "openai"),
        ("Qwen/Qwen2.5-3B", "transformers"),
        ("qwen2.5:3b", "ollama"),
        ("gemma3", "ollama"),
        ("gemma3@sha256:0a1b", "ollama"),
        ("hf.co/org/name:Q4_0", "ollama"),
        ("hf.co/org/name", "ollama"),
        ("registry.ollama.ai/library/qwen3", "ollama"),
        ("org/name.v2", "transformers"),
    ],
)
def test_a_name_decides_the_engine(name: str, engine: str) -> None:
    assert registry.engine_of(name).name == engine
    assert registry.is_served(name) == (engine in {"ollama", "openai"})


def test_a_folder_is_loaded_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.engine_of(str(tmp_path)).name == "transformers"
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "checkpoint"):
        (tmp_path / name).mkdir()
    assert registry.engine_of("checkpoint").name == "transformers"
    assert registry.engine_of("tiny").name == "tiny"


@pytest.mark.parametrize("name", ["", " ", "./nowhere", "/nowhere/a", "~/nowhere", ".x"])
def test_what_looks_like_a_path_must_be_a_folder(name: str) -> None:
    with pytest.raises(Misuse, match="neither a folder nor a model's name"):
        registry.engine_of(name)


@pytest.mark.parametrize("name", ["ftp://me:hush@box/v1", "me:hush@box:80/v1#m"])
def test_a_url_of_another_kind_is_no_name_of_ollama(name: str) -> None:
    with pytest.raises(Misuse, match=r"box.*neither a folder nor a model's name") as caught:
        registry.engine_of(name)
    assert "hush" not in str(caught.value)


def test_an_ollama_tag_is_trained_as_the_same_model_of_the_hub() -> None:
    assert registry.weights_name("qwen2.5:3b") == "Qwen/Qwen2.5-3B-Instruct"
    assert registry.weights_name("org/name") == registry.source("org/name") == "org/name"
    assert registry.source("tiny") == str(registry.tiny_folder())
    for name in ("http://host/v1#m", "no-such-model:1b"):
        with pytest.raises(Misuse, match="another process holds the weights"):
            registry.weights_name(name)


def test_every_entry_names_a_function_that_is_there() -> None:
    pytest.importorskip("torch")
    for entry in registry.ENGINES:
        assert callable(load_object(entry.opener))
        assert not entry.hub_name or callable(load_object(entry.hub_name))
