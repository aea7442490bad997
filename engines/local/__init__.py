"""The engine over transformers: a model in this process, with shared prefixes and LoRA adapters."""
