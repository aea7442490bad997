"""The *domains*, as data; knowledge bases themselves are built by `rag` and lie in the workspace.

One folder per domain: `domain.yaml` declares it, `documents/` is what its knowledge base is built
from, and `questions.jsonl` has the domain's own questions. `domains` loads them and those of a
workspace; `authoring` generates the built-in documents and questions from facts and rules, and the
questions on documents that are written by hand.
"""
