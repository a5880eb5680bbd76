"""Paths of sequences of variable length, which change by insertions, deletions and substitutions."""
