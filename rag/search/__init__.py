"""Search: hybrid retrieval of passages, fusion and reranking."""
