"""Adapters: PEFT methods, the registry of published versions, and model cards."""
