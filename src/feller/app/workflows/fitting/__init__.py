"""Steps of a fit: plan, set-up, training, resuming."""
