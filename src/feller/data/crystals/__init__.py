"""Crystals: periodic cells with atoms."""
