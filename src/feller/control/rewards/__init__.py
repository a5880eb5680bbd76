"""Rewards: built-in, user-defined, chemical and from potentials."""
