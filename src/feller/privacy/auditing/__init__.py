"""Empirical lower bounds on epsilon by canaries."""
