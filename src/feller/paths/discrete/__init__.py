"""Paths and rates of discrete tokens."""
