"""Traces of an agent in a shop, whose tools alone know the answers."""
