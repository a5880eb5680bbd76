"""Probability paths with jump processes, for real numbers, angles and rotations."""
