"""Generalized Schrödinger bridges between populations."""
