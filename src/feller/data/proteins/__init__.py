"""Proteins: backbones and sequences of chains."""
