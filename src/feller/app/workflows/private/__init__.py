"""Fits with differential privacy: budget, schema search, noisy statistics and guarantee."""
