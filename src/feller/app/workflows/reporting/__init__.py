"""Assembly of the reports of a run: samples compared with real data, reconstruction, prediction and steering."""
