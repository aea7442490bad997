"""Training rows that a model writes about the passages of a knowledge base."""
