"""Stages of a training after the first: preference and reward, on TRL's trainers."""
