"""Workflows of speech models: requests, synthesis, evaluation."""
