"""Private fitting of regularised linear models by output perturbation: solve exactly, then add noise to the weights."""
