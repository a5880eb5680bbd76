"""Autoregressive decoding of tokens, rows and documents."""
