"""Solvers: one step of a simulation."""
