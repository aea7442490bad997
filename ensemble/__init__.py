"""Choose what each question gets.

Here will live: the keyword router and its fitting, the plan (domain to treatment), and the
OpenAI-compatible server over both.
"""
