"""Autoregressive decoding of token sequences, table rows and documents."""
