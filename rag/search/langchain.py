"""LangChain retriever over a knowledge base, for chains that exist already."""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from rag.base import Hit
from rag.search.retrieval import Retriever


def as_langchain(retriever: Retriever, k: int = 3) -> BaseRetriever:
    """Wrap a retriever; `batch` searches for all questions at once."""

    class KnowledgeBaseRetriever(BaseRetriever):
        """The best chunks as LangChain documents, with their scores as metadata."""

        def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
            return as_documents(retriever.search([query], k)[0])

        def batch(self, inputs: list[str], *_: Any, **__: Any) -> list[list[Document]]:
            return [as_documents(hits) for hits in retriever.search(inputs, k)]

    return KnowledgeBaseRetriever()


def as_documents(hits: list[Hit]) -> list[Document]:
    """Hits as LangChain documents."""
    return [
        Document(
            page_content=hit.chunk.text,
            id=hit.chunk.id,
            metadata={
                "source": hit.chunk.source,
                "heading": hit.chunk.heading,
                "licence": hit.chunk.licence,
                "offset": hit.chunk.offset,
                "rank": hit.rank,
                "score": hit.score,
                "dense": hit.dense,
                "bm25": hit.bm25,
            },
        )
        for hit in hits
    ]
