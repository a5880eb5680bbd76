"""Readers and writers of files with text, numbers and arrays."""
