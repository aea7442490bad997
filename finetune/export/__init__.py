"""Hand an adapter on: merged weights, GGUF, Ollama, the hub, each checked against the original."""
