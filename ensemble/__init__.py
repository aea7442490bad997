"""Ensemble: the plan of treatments per domain, and the router that finds a question's domain."""
