"""Metrics of synthetic tables."""
