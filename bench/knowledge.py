"""Where the knowledge bases of a workspace are, and the models that made them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.errors import Misuse

if TYPE_CHECKING:
    from rag.base import Embedder
    from rag.manifest import Manifest


def root(workspace: Path) -> Path:
    """The folder of all knowledge bases."""
    return workspace / "knowledge_bases"


def open_cached(name: str, workspace: Path) -> Embedder:
    """An embedding model that remembers its vectors in the workspace."""
    from rag.embedding import open_embedder
    from rag.embedding.cache import CachedEmbedder

    return CachedEmbedder(open_embedder(name), root(workspace) / ".vectors.sqlite")


def embedder_of(manifest: Manifest, workspace: Path, opened: dict[str, Embedder]) -> Embedder:
    """The model that a knowledge base was made with; another one of that name is refused."""
    if manifest.embedder not in opened:
        opened[manifest.embedder] = open_cached(manifest.embedder, workspace)
    found = opened[manifest.embedder]
    if found.digest != manifest.digest:
        raise Misuse(
            f"knowledge base `{manifest.domain}` was embedded by `{manifest.embedder}` "
            f"({manifest.digest}), and the model of that name here is another one "
            f"({found.digest})",
            f"embed it anew: `bench kb build {manifest.domain} --rebuild`",
        )
    return found
