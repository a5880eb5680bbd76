"""Modality-specific defaults and functions for commands and reports; one module per package of `feller.data`."""
