"""Views of results: terminal, Markdown, JSON and HTML; one module per result."""
