"""Steps of a fit: planning, set-up, training and resuming."""
