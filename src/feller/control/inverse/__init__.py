"""Inverse problems: D-Flow, PiGDM, DPS and RED-diff."""
