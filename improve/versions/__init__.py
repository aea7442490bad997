"""Versions of what a workspace serves: what they consist of, their states, and the way back."""
