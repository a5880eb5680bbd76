"""Recipes, the default settings of a fit, for each modality."""
