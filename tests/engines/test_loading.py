"""Digests of models: everything that decides an answer is in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers")

from engines.base import same_weights
from engines.gguf.engine import file_digest
from engines.local.loading import model_digest

PLAIN: Any = SimpleNamespace(config=SimpleNamespace(_commit_hash=None))
FILES = ("model.safetensors", "config.json", "tokenizer.json")


def folder(path: Path, *more: str) -> Path:
    for name in (*FILES, *more):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("chat_template.jinja", "tokenizer.model", "spiece.model", "merges.txt", "vocab.txt"),
        *("vocab.json", "tokenizer_config.json", "qwen.tiktoken"),
        "additional_chat_templates/tools.jinja",
    ],
)
def test_every_file_of_a_tokenizer_belongs_to_a_folder(tmp_path: Path, name: str) -> None:
    bare = model_digest(str(folder(tmp_path)), PLAIN)
    there = model_digest(str(folder(tmp_path, name)), PLAIN)
    (tmp_path / name).write_text("edited")
    edited = model_digest(str(tmp_path), PLAIN)
    assert len({bare, there, edited}) == 3
    assert same_weights(there, edited) is not name.endswith(".json")
    (tmp_path / "README.md").write_text("for people")
    assert model_digest(str(tmp_path), PLAIN) == edited


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    one = model_digest(str(folder(tmp_path, "chat_template.jinja")), PLAIN)
    (tmp_path / "model.safetensors").write_text("edited")
    assert not same_weights(one, model_digest(str(tmp_path), PLAIN))


def test_all_parts_of_a_gguf_file_are_what_it_is(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_text(part.name)
    one = file_digest(parts[0])
    parts[1].write_text("edited")
    assert file_digest(parts[0]) != one
