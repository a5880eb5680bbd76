"""Families of models: what a trained network means."""
