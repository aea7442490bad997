"""Replies: what a model thought, what it answered, and how that compares with the reference."""
