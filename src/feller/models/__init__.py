"""Fitted models: specification, weights, sampling and export."""
