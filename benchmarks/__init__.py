"""Timings against other packages and against bare loops, in one run."""
