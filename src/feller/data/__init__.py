"""Data: readers, modalities and batches."""
