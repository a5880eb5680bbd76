"""Workflows of document models: requests, generation, evaluation."""
