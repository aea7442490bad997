"""Registry of adapters: versions are published atomically and immutable.

<root>/<domain>/v0001/     a version: PEFT's two files, what training left, card.json, README.md
<root>/<domain>/last.json  the highest number given away, should that version be removed
<root>/<domain>/.build-…/  a version under way, or what a killed process left; `.gone-…` likewise
<root>/.locks/<domain>.lock  held by the one writer of a domain
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.files import (
    atomic_folder,
    disk_errors,
    exclusive_lock,
    sha256,
    text_sha256,
    timestamp,
    write_json,
    write_text,
)
from domainlift.optional import installed_versions
from engines.base import AdapterEngine, Engine, same_weights
from engines.servers.ollama_hub_names import hub_name
from finetune.adapters.model_card import CARD, ModelCard, read_model_card, render_model_card

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
README = "README.md"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NAME = re.compile(r"([a-z0-9_-]+)(?:/(v\d{4,}))?")
_VERSION = re.compile(r"v(\d{4,})")


@dataclass(frozen=True)
class AdapterDraft:
    """A trained adapter that is to be published.

    `folder` holds PEFT's two files and whatever else shall be kept; `curves` names the file of
    the loss curves in it. `scores` are validation scores by domain; `budget`, `speed` and
    `perplexity` are those of the model card. `checkpoints` is a folder of the adapters that its
    stages left.
    """

    domain: str
    folder: Path
    method: str
    base: str
    base_digest: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    curves: str = ""
    budget: Mapping[str, Any] = field(default_factory=dict)
    speed: Mapping[str, Any] = field(default_factory=dict)
    perplexity: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Path | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter whose files were found to be as they were published."""

    name: str
    folder: Path
    card: ModelCard

    @property
    def digest(self) -> str:
        """Digest of configuration and weights."""
        parts = "".join(self.card.files[name] for name in (CONFIG, WEIGHTS))
        return f"sha256:{text_sha256(parts)}"

    @property
    def config(self) -> dict[str, Any]:
        """PEFT's configuration."""
        config: dict[str, Any] = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        return config

    def check_base(self, name: str, digest: str) -> None:
        """Raise Misuse where a model is another one than the adapter was trained on.

        Ollama holds a model in a form of its own, with another digest; there the names must agree.
        """
        if same_weights(digest, self.card.base_digest) or hub_name(name) == self.card.base:
            return
        raise Misuse(
            f"adapter `{self.name}` was trained on `{self.card.base}` "
            f"({_short(self.card.base_digest)}), not on `{name}` ({_short(digest)})",
            f"use `--model {shlex.quote(self.card.base)}`, or train an adapter for `{name}`",
        )


def load_adapter_into(engine: Engine, adapter: Adapter) -> str:
    """Load an adapter into an engine; return the name by which requests ask for it.

    Raises Misuse where the engine takes no adapters or has another base model.
    """
    if not isinstance(engine, AdapterEngine):
        raise Misuse(
            f"engine `{engine.info.engine}` cannot load an adapter",
            "score in this process (`--model org/name`), or export the adapter: `bench export`",
        )
    adapter.check_base(engine.info.model, engine.info.digest)
    name = adapter.name.replace("/", "-")
    engine.add_adapter(name, adapter.folder)
    return name


class AdapterRegistry:
    """All adapters below one folder.

    A name is `biology`, which means its newest version, `biology/v0002`, or a folder's path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self) -> list[str]:
        """The names of all versions, sorted; reading creates no folder."""
        if not self.root.is_dir():
            return []
        folders = (p for d in self.root.iterdir() if _NAME.fullmatch(d.name) for p in _versions(d))
        return sorted(f"{path.parent.name}/{path.name}" for path in folders)

    def show(self, name: str) -> ModelCard:
        """The card of a version, without reading its weights."""
        return read_model_card(self._find(name)[1])

    def open(self, name: str) -> Adapter:
        """Check every file of a version; Malformed names the one that is not as it was."""
        shown, folder = self._find(name)
        _refuse_pickles(folder)
        card = read_model_card(folder)
        card.check_files(folder, needed=(WEIGHTS, CONFIG))
        return Adapter(shown, folder, card)

    def publish(self, draft: AdapterDraft) -> Adapter:
        """Make a trained adapter the newest version of its domain."""
        with self.writing(draft.domain) as writer:
            return writer.publish(draft)

    def remove(self, name: str) -> None:
        """Delete one version; its number is never given away again."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise Misuse(f"`{name}` is no adapter of `{self.root}`", "`bench adapters list`")
        _, folder = self._registered(match[1], match[2])
        with self.writing(match[1]) as writer:
            writer.remove(folder)

    @contextmanager
    def writing(self, domain: str) -> Iterator[AdapterWriter]:
        """Be the only writer of a domain; a second one is told who the first is."""
        if not re.fullmatch(r"[a-z0-9_-]+", domain):
            raise Misuse(f"`{domain}` cannot name a domain", "use only a-z, 0-9, `_` and `-`")
        locks = self.root / ".locks"
        hint = "wait for it, then repeat the command"
        with exclusive_lock(locks / f"{domain}.lock", f"the adapter of `{domain}`", hint):
            for path in (self.root / domain).glob(".gone-*"):
                shutil.rmtree(path, ignore_errors=True)
            yield AdapterWriter(self.root / domain)

    def _find(self, name: str) -> tuple[str, Path]:
        match = _NAME.fullmatch(name)
        if match is not None and (self.root / match[1]).is_dir():
            return self._registered(match[1], match[2])
        if name and Path(name).is_dir():
            return name, Path(name)
        raise NoSuch("adapter", name, self._names(), "bench adapters list", "bench train")

    def _registered(self, domain: str, version: str | None) -> tuple[str, Path]:
        versions = {path.name: path for path in _versions(self.root / domain)}
        if not versions or (version is not None and version not in versions):
            wanted = domain if version is None else f"{domain}/{version}"
            raise NoSuch("adapter", wanted, self._names(), "bench adapters list", "bench train")
        chosen = max(versions, key=_number) if version is None else version
        return f"{domain}/{chosen}", versions[chosen]

    def _names(self) -> set[str]:
        names = self.list()
        return {*names, *(name.partition("/")[0] for name in names)}


class AdapterWriter:
    """The right to write the adapters of one domain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, draft: AdapterDraft) -> Adapter:
        """Copy a draft's files aside, describe them, and let them appear in one step."""
        _check_draft(draft)
        version = f"v{self._last() + 1:04d}"
        target = self.folder / version
        with atomic_folder(target) as build:
            for path in sorted(draft.folder.iterdir()):
                shutil.copyfile(path, build / path.name)
            card = _card(draft, version, build)
            write_json(build / CARD, asdict(card))
            write_text(build / README, render_model_card(card))
            for stage in sorted(draft.checkpoints.iterdir()) if draft.checkpoints else ():
                own = build / "checkpoints" / stage.name
                shutil.copytree(stage, own)
                # Each is an adapter that can be asked for by the path of its folder.
                plain = replace(draft, curves="", scores={})
                write_json(own / CARD, asdict(_card(plain, f"{version}-{stage.name}", own)))
        return Adapter(f"{draft.domain}/{version}", target, card)

    def remove(self, folder: Path) -> None:
        """Delete a version; it goes out of sight first, so that no half of it is opened."""
        write_json(self.folder / "last.json", {"last": self._last()})
        gone = self.folder / f".gone-{folder.name}"
        with disk_errors(folder):
            folder.rename(gone)
            shutil.rmtree(gone)

    def _last(self) -> int:
        path = self.folder / "last.json"
        try:
            noted = int(json.loads(path.read_text(encoding="utf-8"))["last"])
        except FileNotFoundError:
            noted = 0
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BenchError(f"`{path}` cannot be read", "remove it") from error
        return max([noted, *(_number(path.name) for path in _versions(self.folder))])


def _card(draft: AdapterDraft, version: str, build: Path) -> ModelCard:
    beside = {"folder", "checkpoints"}
    told = {key: value for key, value in vars(draft).items() if key not in beside}
    return ModelCard(
        **told,
        version=version,
        created=timestamp(),
        # The README is left out: it is for people, who may want to write more into it.
        files={path.name: sha256(path) for path in sorted(build.iterdir()) if path.name != README},
        versions=installed_versions("peft", "safetensors", "torch", "transformers"),
    )


def _check_draft(draft: AdapterDraft) -> None:
    files = {path.name for path in draft.folder.iterdir()} if draft.folder.is_dir() else set()
    for name in filter(None, (WEIGHTS, CONFIG, draft.curves)):
        if name not in files:
            raise BenchError(f"`{draft.folder}` cannot be published: `{name}` is missing")
    for name in files:
        if not (draft.folder / name).is_file() or name == CARD:
            raise BenchError(f"`{draft.folder / name}` cannot be a part of an adapter")
    _refuse_pickles(draft.folder)


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix in PICKLED:
            raise Misuse(
                f"`{folder}` holds pickled weights (`{path.name}`), which can run code when read",
                f"save the adapter anew with peft, which writes {WEIGHTS}",
            )


def _versions(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if _VERSION.fullmatch(path.name))


def _number(version: str) -> int:
    return int(version.removeprefix("v"))


def _short(digest: str) -> str:
    kind, _, value = digest.rpartition(":")
    return f"{kind}:{value[:12]}" if kind else value[:12]
