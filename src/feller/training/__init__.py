"""Training: objectives, losses, couplings and the training loop."""
