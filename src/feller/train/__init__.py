"""One loop that trains."""
