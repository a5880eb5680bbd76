"""What crystals and molecules share: elements, formulas, atoms at one place."""
