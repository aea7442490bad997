"""Timings against peers, as ratios: each module is a script that prints one table."""
