"""Batched optimisers that solve one independent problem per example."""
