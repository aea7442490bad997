"""Scoring of answers: extraction from replies, scorers, and scores of log-probabilities."""
