"""Report of a run: an HTML page, and the same metrics as JSON."""
