"""DP-SGD: per-example gradients, clipping and noise."""
