"""Retrieval augmentation: a datastore, its index, and retrievers."""
