"""Recipes that make what the packages ship; run from a clone of the repository."""
