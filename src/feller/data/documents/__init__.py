"""Documents: interleaved texts and images as tokens of one vocabulary."""
