"""Synthetic pictures of shapes, creatures, maps and letters, with captions and instructions."""
