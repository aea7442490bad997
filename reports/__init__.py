"""Show runs: one object, drawn for the terminal, for Markdown, for scripts and as a page.

profile    a single run, for the terminal
Here will also live: the comparison of runs.
"""
