"""Feedback on served answers: which were right, and what becomes of corrections."""
