"""Proteins: chains of residues, with their sequences or without."""
