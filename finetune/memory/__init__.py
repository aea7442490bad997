"""Memory and time of a training before it begins: activations, estimates and the cost model."""
