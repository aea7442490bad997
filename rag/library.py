"""Library: the knowledge bases of a workspace, opened with the models that embedded them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from domainlift.errors import Misuse
from domainlift.workspace import Workspace
from rag.base import Embedder, Vectors
from rag.embedding.cache import CachedEmbedder
from rag.embedding.registry import open_embedder
from rag.index.index import open_index
from rag.index.manifest import IndexManifest
from rag.index.store import KnowledgeBaseStore
from rag.search.retrieval import Rerank, Retrieval, Retriever


def open_cached(name: str, workspace: Path) -> Embedder:
    """An embedding model with the vector cache of the workspace."""
    return CachedEmbedder(open_embedder(name), Workspace(workspace).embedding_cache)


@contextmanager
def library(workspace: Path) -> Iterator[KnowledgeBases]:
    """The knowledge bases of a workspace; those that were opened are closed together."""
    with ExitStack() as stack:
        yield KnowledgeBases(workspace, stack)


class KnowledgeBases:
    """Opens knowledge bases, and loads each embedding model once for all of them."""

    def __init__(self, workspace: Path, stack: ExitStack) -> None:
        self._workspace = workspace
        self._stack = stack
        self._embedders: dict[str, Embedder] = {}

    def names(self) -> Sequence[str]:
        """The domains that have a knowledge base."""
        return KnowledgeBaseStore(Workspace(self._workspace).knowledge_bases).names()

    def open(
        self,
        domain: str,
        settings: Retrieval | None = None,
        rerank: Rerank | None = None,
        *,
        exact: bool = False,
        generation: str = "",
    ) -> Retriever:
        """Search in the knowledge base of a domain, with the model that it was made with.

        `exact` is for a few questions: see `Index`. Without a `generation` it is the published one.

        Raises Misuse where the model of that name is another one by now.
        """
        by_words = settings is not None and settings.method == "bm25"
        root, exact = Workspace(self._workspace).knowledge_bases, exact or by_words
        index = self._stack.enter_context(
            open_index(root, domain, exact=exact, generation=generation)
        )
        if not by_words:  # a model that is another one by now is told before anything else
            self._embedder(index.manifest)
        return Retriever(index, partial(self._encode, index.manifest), settings, rerank)

    def _encode(self, manifest: IndexManifest, queries: Sequence[str]) -> Vectors:
        return self._embedder(manifest).encode_queries(queries)

    def _embedder(self, manifest: IndexManifest) -> Embedder:
        name = manifest.embedder
        if name not in self._embedders:
            self._embedders[name] = open_cached(name, self._workspace)
        embedder = self._embedders[name]
        if embedder.digest != manifest.digest:
            raise Misuse(
                f"knowledge base `{manifest.domain}` was embedded by `{name}` "
                f"({manifest.digest}), and the model of that name here is another one "
                f"({embedder.digest})",
                f"embed it anew: `bench kb build {manifest.domain} --rebuild`",
            )
        return embedder
