"""Content of the reports of a run."""
