"""Turn documents into a knowledge base and a question into passages.

Here will live: loaders and chunking, embeddings with their cache, the Chroma store with its BM25
index, hybrid retrieval, the gate that decides per question, and the guard against leaks.
"""
