"""Recipes: everything that a fit chooses, for each modality."""
