"""Corpus: source files read into documents and cut into chunks."""
