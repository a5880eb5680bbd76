"""The report of a run: one page for people, the same numbers for programs."""
