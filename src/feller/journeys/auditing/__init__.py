"""From a run to what could be learned about single rows, what bounds it, and attacks beside that."""
