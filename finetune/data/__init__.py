"""Training rows: file formats, sources, cleaning, leak checks, mixing and replay."""
