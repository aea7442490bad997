"""Export of adapters: merged weights, GGUF, Ollama and the hub, each checked before it appears."""
