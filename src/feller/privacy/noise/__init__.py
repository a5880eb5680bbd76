"""Sampling of noise for differential privacy, from a cryptographic generator and on a grid."""
