"""Generator of the built-in questions and documents, from tables of facts, rules and prose."""
