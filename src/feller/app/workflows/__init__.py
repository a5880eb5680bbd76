"""Workflows behind the commands and the Python functions."""
