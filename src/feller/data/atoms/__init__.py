"""Chemical elements, formulas and what crystals and molecules share."""
