"""Documents: texts and images that follow each other, as tokens of one vocabulary."""
