"""Auditing of private training: empirical lower bounds on epsilon from canaries (planted rows)."""
