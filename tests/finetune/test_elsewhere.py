from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import BenchError, Misuse
from finetune.export.hub import ollama_version, upload


class Shelf:
    """A hub that keeps names of files, or refuses as the real one does."""

    def __init__(self, refuses: bool = False) -> None:
        self.repos: dict[str, list[str]] = {}
        self.private: set[str] = set()
        self._refuses = refuses

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        if self._refuses:
            raise OSError("401 Client Error\nInvalid user token")
        assert exist_ok or repo_id not in self.repos
        self.repos.setdefault(repo_id, [])
        if private:
            self.private.add(repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        self.repos[repo_id] += sorted(path.name for path in Path(folder_path).iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("card.json", "adapter_model.safetensors", "README.md"):
        (tmp_path / name).write_text("", encoding="utf-8")
    return tmp_path


def test_a_folder_is_uploaded_in_private(folder: Path) -> None:
    shelf = Shelf()
    assert upload(folder, "me/lifted", api=shelf) == "me/lifted"
    assert shelf.repos == {"me/lifted": ["README.md", "adapter_model.safetensors", "card.json"]}
    assert shelf.private == {"me/lifted"}


def test_what_the_hub_says_is_passed_on(folder: Path) -> None:
    with pytest.raises(BenchError, match="401 Client Error Invalid user token") as caught:
        upload(folder, "me/lifted", api=Shelf(refuses=True))
    assert "hf auth login" in str(caught.value.hint)


@pytest.mark.parametrize("repo", ["", "lifted", "a/b/c", "./me/x", "/x"])
def test_a_name_that_is_none_is_refused(folder: Path, repo: str) -> None:
    with pytest.raises(Misuse, match="cannot name a repository"):
        upload(folder, repo, api=Shelf())


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="not exported"):
        upload(tmp_path, "me/lifted", api=Shelf())


def test_the_version_of_a_server_that_answers(stub: Any, reply: Any) -> None:
    stub.on("/api/version", reply({"version": "0.33.0"}))
    assert ollama_version(stub.url) == "0.33.0"


def test_no_server_has_no_version(stub: Any, reply: Any) -> None:
    assert ollama_version(stub.url) == ""  # something else listens there
    stub.close()
    assert ollama_version(stub.url) == ""
