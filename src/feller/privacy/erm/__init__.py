"""Output perturbation of regularised linear models."""
