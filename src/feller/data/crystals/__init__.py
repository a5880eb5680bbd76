"""Crystals: cells that repeat, with atoms at places of their own."""
