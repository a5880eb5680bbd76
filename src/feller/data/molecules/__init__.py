"""Molecules: atoms of known elements at positions in space."""
