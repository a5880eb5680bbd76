"""Models of documents: requests, generation, evaluation."""
