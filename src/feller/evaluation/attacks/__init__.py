"""Attacks on a model's training data: membership, attributes, reconstruction."""
