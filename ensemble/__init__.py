"""Choose what each question gets.

The router (`router`, over `keywords` and `classifier`), how it is fitted (`material`, `fit`) and
measured (`measure`); the plan (domain to treatment) and what it makes of a question.
"""
