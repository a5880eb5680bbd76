"""Evaluation of models: metrics for each modality, privacy attacks, and reports."""
