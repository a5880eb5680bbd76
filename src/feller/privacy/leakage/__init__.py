"""Fisher information and reconstruction bounds of private training."""
