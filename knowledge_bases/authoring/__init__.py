"""How the built-in questions and documents are made: from tables of facts and from rules."""
