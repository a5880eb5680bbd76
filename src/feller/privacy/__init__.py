"""Differential privacy: training, accounting, noise, leakage, audits and marginals."""
