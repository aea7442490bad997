"""Fit of a router: its training data, linear model, thresholds and evaluation."""
