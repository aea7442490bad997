"""Generator of the built-in questions and documents, from tables of facts and from rules."""
