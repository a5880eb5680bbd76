"""Documents that are looked up to stand in front of others: a memory, an index of it, and how it is searched."""
