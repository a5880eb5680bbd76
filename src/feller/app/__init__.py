"""Application layer: workflows, the commands of `feller`, and its web page."""
