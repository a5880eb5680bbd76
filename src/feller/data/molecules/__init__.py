"""Molecules: atoms of known elements at places in space."""
