"""Data sets: file readers, modalities and training batches."""
