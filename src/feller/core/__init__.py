"""Foundations of all packages: errors, pytrees, random numbers, serialized records and run folders."""
