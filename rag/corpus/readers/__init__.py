"""Readers of files: sections of clean text, one module per family of formats."""
