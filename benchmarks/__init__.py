"""Evaluation by domain: tasks, prompts, scoring, runs, treatments, held-out questions, results."""
