"""Talk to a language model: one small protocol, one file per engine."""
