"""Joint training: the LoRA adapters of several domains in one pass over one base model."""
