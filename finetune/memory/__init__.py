"""Memory and time of a training before it begins: estimates and the cost model."""
