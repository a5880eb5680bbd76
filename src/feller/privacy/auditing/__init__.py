"""Empirical lower bounds on epsilon from canaries."""
