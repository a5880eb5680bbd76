"""Chemical elements, formulas and the code that crystals and molecules share."""
