"""Schrödinger bridges: populations, state costs, training rounds and report."""
