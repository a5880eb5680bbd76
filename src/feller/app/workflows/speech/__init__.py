"""Models of speech: requests, synthesis, evaluation."""
