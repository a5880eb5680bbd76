"""Atoms: chemical elements, formulas and the base class of crystals and molecules."""
