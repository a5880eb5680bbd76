"""Documents: texts and pictures that follow each other, in one vocabulary."""
