"""The domains themselves, as data, and the loader.

One folder per domain: `domain.yaml` says what it is, `documents/` holds what may be put before a
question, and `questions.jsonl` the domain's own questions. `domains` reads them and those of a
workspace; `authoring` makes the built-in documents and questions from facts and rules.
"""
