"""Models for other programs, and networks of others as models."""
