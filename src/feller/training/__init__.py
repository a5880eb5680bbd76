"""Training: objectives, losses, couplings, and one loop."""
