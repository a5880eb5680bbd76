"""Retrieval augmentation: a datastore of documents, its search index, and retrievers."""
