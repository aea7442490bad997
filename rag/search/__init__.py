"""Search: hybrid retrieval of passages, rank fusion and reranking."""
