"""Index of a knowledge base: its build, the generations on disk, and its vector and BM25 stores."""
