"""Privacy attacks on training data: membership inference, attribute inference and reconstruction."""
