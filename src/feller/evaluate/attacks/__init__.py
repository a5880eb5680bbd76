"""What somebody could learn of the training data from a model: attacks, to be set beside what bounds them."""
