"""Report of a run: an HTML page, and a JSON file with the same metrics."""
