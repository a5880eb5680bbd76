"""Content of reports of a run."""
