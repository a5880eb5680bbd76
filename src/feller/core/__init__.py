"""Foundations: errors, pytrees, random numbers, records and run folders."""
