"""Held-out questions: the split, the ledger of their uses, and the promotion gate."""
