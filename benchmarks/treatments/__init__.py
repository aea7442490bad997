"""Treatments of questions: base model, passages, adapters, and plans."""
