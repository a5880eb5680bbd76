"""Probability paths of discrete tokens, and their jump rates."""
