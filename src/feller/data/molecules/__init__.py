"""Molecules: elements and positions of atoms."""
