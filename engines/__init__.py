"""Engines: clients of language models that score options or generate text, one protocol for all."""
