"""Metrics of each modality, attacks, and the report."""
