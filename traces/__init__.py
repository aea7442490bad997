"""Traces of agents: recorded, imported, cleaned and chosen, exported."""
