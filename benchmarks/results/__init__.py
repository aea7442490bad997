"""Results: scores by domain, the comparison of two runs, and the result of the whole loop."""
