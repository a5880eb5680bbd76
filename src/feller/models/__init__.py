"""Fitted models: specification, weights, sampling, likelihood and export."""
