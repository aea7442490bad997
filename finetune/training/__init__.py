"""The training loop: tokenization, packing, loss, gradients, schedule and checkpoints."""
