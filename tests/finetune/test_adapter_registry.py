from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from finetune.adapters.model_card import CARD, read_model_card, render_model_card
from finetune.adapters.registry import (
    CONFIG,
    WEIGHTS,
    AdapterDraft,
    AdapterRegistry,
    load_adapter_into,
)

BASE = "Qwen/Qwen2.5-3B"


def draft(folder: Path, domain: str = "biology", **more: Any) -> AdapterDraft:
    """The registry does not look into weights, so any bytes are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(os.urandom(2048))
    (folder / CONFIG).write_text('{"peft_type": "LORA", "r": 4}', encoding="utf-8")
    (folder / "curves.jsonl").write_text('{"step": 1, "loss": 2.5}\n', encoding="utf-8")
    settings: dict[str, Any] = {
        "method": "lora",
        "base": BASE,
        "base_digest": "sha256:" + "a" * 64,
        "recipe": {"rank": 4, "mix": {"biology": 0.5, "replay": 0.5}},
        "data": {"train": 120, "licences": ["CC-BY-4.0"]},
        "scores": {"biology": {"base": 0.25, "adapter": 0.9}},
        "curves": "curves.jsonl",
    }
    return AdapterDraft(domain, folder, **(settings | more))


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "workspace" / "adapters")


@pytest.fixture
def published(adapters: AdapterRegistry, tmp_path: Path) -> AdapterRegistry:
    """Two versions for biology, one for history."""
    for domain in ("biology", "history", "biology"):
        adapters.publish(draft(tmp_path / "draft", domain))
    return adapters


def test_reading_makes_no_folder(adapters: AdapterRegistry) -> None:
    assert adapters.list() == []
    with pytest.raises(NoSuch, match="no adapter `biology`"):
        adapters.open("biology")
    assert not adapters.root.exists()


def test_what_is_published_can_be_read(adapters: AdapterRegistry, tmp_path: Path) -> None:
    source = draft(tmp_path / "draft")
    made = adapters.publish(source)
    found = adapters.open("biology")
    assert found == made
    assert found.name == "biology/v0001"
    assert found.folder == adapters.root / "biology" / "v0001"
    assert (found.folder / WEIGHTS).read_bytes() == (source.folder / WEIGHTS).read_bytes()
    assert found.config["r"] == 4
    assert found.card == adapters.show("biology/v0001")
    assert (found.card.base, found.card.method) == (BASE, "lora")
    assert found.card.scores == source.scores
    assert set(found.card.files) == {WEIGHTS, CONFIG, "curves.jsonl"}
    assert "peft" in found.card.versions


def test_a_name_without_a_version_is_the_newest(published: AdapterRegistry) -> None:
    assert published.list() == ["biology/v0001", "biology/v0002", "history/v0001"]
    assert published.open("biology").name == "biology/v0002"
    assert published.open("biology/v0001").name == "biology/v0001"
    assert published.open("biology").digest != published.open("biology/v0001").digest


def test_a_folder_is_a_name_too(published: AdapterRegistry, tmp_path: Path) -> None:
    shutil.copytree(published.root / "history" / "v0001", tmp_path / "elsewhere")
    found = published.open(str(tmp_path / "elsewhere"))
    assert found.card == published.show("history")
    assert found.digest == published.open("history").digest


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("biologie", "did you mean `biology`?"),
        ("biology/v0003", "did you mean `biology/v000"),
        ("../biology", "bench adapters list"),
        ("", "bench adapters list"),
        (".locks", "bench adapters list"),
    ],
)
def test_a_name_that_does_not_exist_is_told(
    published: AdapterRegistry, name: str, near: str
) -> None:
    with pytest.raises(NoSuch) as caught:
        published.open(name)
    assert near in str(caught.value.hint)


@pytest.mark.parametrize("domain", ["", "..", "a/b", "A b", ".locks", "a:b"])
def test_a_domain_that_cannot_name_a_folder_is_refused(
    adapters: AdapterRegistry, domain: str, tmp_path: Path
) -> None:
    with pytest.raises(Misuse, match="cannot name a domain"):
        adapters.publish(draft(tmp_path / "draft", domain))
    assert not adapters.root.exists()


def test_the_model_card_tells_what_a_person_asks(published: AdapterRegistry) -> None:
    folder = published.root / "biology" / "v0002"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == render_model_card(read_model_card(folder))
    assert text.startswith(f"---\nbase_model: {BASE}\nlibrary_name: peft\n")
    for said in ("biology", "CC-BY-4.0", '"adapter": 0.9', "sha256:aaaa", "peft"):
        assert said in text


def test_a_local_base_is_not_linked_on_the_hub(adapters: AdapterRegistry, tmp_path: Path) -> None:
    made = adapters.publish(draft(tmp_path / "draft", base="./models/mine"))
    assert "base_model:" not in (made.folder / "README.md").read_text(encoding="utf-8")


def test_people_may_write_into_the_model_card(published: AdapterRegistry) -> None:
    (published.root / "biology" / "v0002" / "README.md").write_text("mine", encoding="utf-8")
    published.open("biology")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "curves.jsonl"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone", "elsewhere"])
def test_a_file_that_is_not_as_it_was_is_named(
    published: AdapterRegistry, name: str, how: str
) -> None:
    path = published.root / "biology" / "v0002" / name
    content = path.read_bytes()
    path.unlink()
    if how == "changed":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif how == "cut":
        path.write_bytes(content[:-1])
    elif how == "elsewhere":
        outside = published.root.parent / "outside"
        outside.write_bytes(content)
        path.symlink_to(outside)
    with pytest.raises(Malformed, match=name):
        published.open("biology")
    assert published.open("biology/v0001").name == "biology/v0001"


def test_weights_that_the_card_does_not_know_are_refused(published: AdapterRegistry) -> None:
    path = published.root / "biology" / "v0002" / CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    del card["files"][WEIGHTS]
    path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(Malformed, match=WEIGHTS):
        published.open("biology")


def test_a_card_cannot_lead_out_of_its_folder(published: AdapterRegistry) -> None:
    path = published.root / "biology" / "v0002" / CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    card["files"]["../../history/v0001/card.json"] = "0" * 64
    path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(Malformed, match="leads out"):
        published.open("biology")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{}", '{"schema": 1}', '{"schema": 7}', "\x00", "[" * 100_000],
)
def test_a_damaged_card_is_told(published: AdapterRegistry, content: str) -> None:
    path = published.root / "biology" / "v0002" / CARD
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Malformed, match=CARD):
        published.open("biology")
    assert "biology/v0002" in published.list()


def test_a_folder_without_a_card_is_refused(published: AdapterRegistry) -> None:
    (published.root / "biology" / "v0002" / CARD).unlink()
    with pytest.raises(Malformed, match="the base model is not known"):
        published.open("biology")


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt"])
def test_pickled_weights_are_refused(published: AdapterRegistry, tmp_path: Path, name: str) -> None:
    source = draft(tmp_path / "draft")
    (source.folder / name).write_bytes(b"\x80\x04")
    with pytest.raises(Misuse, match=f"pickled weights.*{name}"):
        published.publish(source)
    (published.root / "biology" / "v0002" / name).write_bytes(b"\x80\x04")
    with pytest.raises(Misuse, match=f"pickled weights.*{name}"):
        published.open("biology")
    assert len(published.list()) == 3


def test_a_draft_that_lacks_a_file_is_not_published(
    adapters: AdapterRegistry, tmp_path: Path
) -> None:
    for name in (WEIGHTS, CONFIG, "curves.jsonl"):
        source = draft(tmp_path / "draft")
        (source.folder / name).unlink()
        with pytest.raises(BenchError, match=name):
            adapters.publish(source)
    assert adapters.list() == []


def test_another_base_is_refused_by_both_names(published: AdapterRegistry) -> None:
    found = published.open("biology")
    found.check_base("whatever it is called", "sha256:" + "a" * 64)
    with pytest.raises(Misuse) as caught:
        found.check_base("other/model", "commit:" + "b" * 40)
    for said in (BASE, "sha256:aaaaaaaaaaaa", "other/model", "commit:bbbbbbbbbbbb"):
        assert said in caught.value.what


class Engine:
    """As much of an engine as loading an adapter looks at."""

    forward_tokens = 0

    def __init__(self, digest: str) -> None:
        self.info = SimpleNamespace(engine="fake", model="other/model", digest=digest)

    def answer(self, *_: Any) -> None:
        raise AssertionError("nothing is asked")

    count = close = answer


class LoadingEngine(Engine):
    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.loaded: dict[str, Path] = {}

    def add_adapter(self, name: str, folder: Path) -> None:
        self.loaded[name] = folder


def test_an_adapter_is_loaded_only_into_an_engine_of_its_base_that_takes_adapters(
    published: AdapterRegistry,
) -> None:
    found = published.open("biology")
    engine: Any = LoadingEngine("sha256:" + "a" * 64)
    assert load_adapter_into(engine, found) == "biology-v0002"
    assert engine.loaded == {"biology-v0002": found.folder}
    other: Any = LoadingEngine("commit:" + "b" * 40)
    with pytest.raises(Misuse, match="was trained on"):
        load_adapter_into(other, found)
    assert other.loaded == {}
    bare: Any = Engine("sha256:" + "a" * 64)
    with pytest.raises(Misuse, match="`fake` cannot load an adapter"):
        load_adapter_into(bare, found)


def test_a_removed_version_is_gone_and_its_number_too(
    published: AdapterRegistry, tmp_path: Path
) -> None:
    published.remove("biology")
    assert published.list() == ["biology/v0001", "history/v0001"]
    assert published.publish(draft(tmp_path / "draft")).name == "biology/v0003"
    published.remove("biology/v0001")
    published.remove("biology/v0003")
    with pytest.raises(NoSuch):
        published.remove("biology")
    assert published.publish(draft(tmp_path / "draft")).name == "biology/v0004"


def test_only_adapters_of_the_registry_can_be_removed(
    published: AdapterRegistry, tmp_path: Path
) -> None:
    shutil.copytree(published.root / "history" / "v0001", tmp_path / "elsewhere")
    with pytest.raises(Misuse):
        published.remove(str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere").is_dir()


def test_a_full_disk_is_told_and_leaves_nothing(
    published: AdapterRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if target.name == WEIGHTS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(BenchError, match="the disk is full") as caught:
        published.publish(draft(tmp_path / "draft"))
    assert "make room" in str(caught.value.hint)
    monkeypatch.undo()
    folder = published.root / "biology"
    assert sorted(path.name for path in folder.iterdir()) == ["v0001", "v0002"]
    assert published.publish(draft(tmp_path / "draft")).name == "biology/v0003"


def test_a_second_writer_is_told_who_the_first_is(
    published: AdapterRegistry, tmp_path: Path
) -> None:
    with published.writing("biology") as writer:
        said = rf"the adapter of `biology` is being written by process {os.getpid()}"
        for attempt in (
            lambda: published.publish(draft(tmp_path / "other")),
            lambda: published.remove("biology"),
        ):
            with pytest.raises(BenchError, match=said):
                attempt()
        published.publish(draft(tmp_path / "third", "history"))
        assert writer.publish(draft(tmp_path / "draft")).name == "biology/v0003"


PUBLISH = """
import sys
from pathlib import Path
from finetune.adapters.registry import AdapterDraft, AdapterRegistry
root, source = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(1000):
    AdapterRegistry(root).publish(AdapterDraft("biology", source, "lora", "tiny", "sha256:0"))
"""


@pytest.mark.skipif(os.name == "nt", reason="kills processes")
def test_a_kill_at_any_moment_leaves_whole_versions(
    adapters: AdapterRegistry, tmp_path: Path
) -> None:
    source = draft(tmp_path / "draft").folder
    (source / WEIGHTS).write_bytes(os.urandom(200_000))
    rng = random.Random(5)
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(adapters.root), str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(rng.uniform(0, 0.12))
        process.kill()
        process.communicate()
        for name in adapters.list():
            adapters.open(name)
    last = adapters.publish(draft(tmp_path / "draft"))
    assert adapters.open("biology") == last
    left = {path.name for path in (adapters.root / "biology").iterdir()}
    assert left == {name.partition("/")[2] for name in adapters.list()}


def test_threads_that_publish_at_once_get_versions_of_their_own(
    adapters: AdapterRegistry, tmp_path: Path
) -> None:
    made: list[str] = []

    def work(number: int) -> None:
        for _ in range(50):
            try:
                made.append(adapters.publish(draft(tmp_path / f"draft{number}")).name)
            except BenchError:
                time.sleep(0.01)
            else:
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == adapters.list() == [f"biology/v000{n}" for n in (1, 2, 3, 4)]
