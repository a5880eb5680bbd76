"""Metrics of generated speech."""
