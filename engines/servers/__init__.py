"""Engines over HTTP: Ollama and OpenAI-compatible servers, and what both need of a client."""
