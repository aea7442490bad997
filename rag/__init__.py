"""Retrieval: knowledge bases from documents, passages for questions, and the gate before them."""
