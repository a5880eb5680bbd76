"""Bridges: populations, costs, rounds, report."""
