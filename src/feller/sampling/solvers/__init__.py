"""Solvers: integrators of one simulation step."""
