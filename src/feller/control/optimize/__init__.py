"""Batched optimisers, one problem per example."""
