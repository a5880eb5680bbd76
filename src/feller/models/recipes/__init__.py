"""Recipes: default settings of a fit for each modality."""
