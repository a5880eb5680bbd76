"""Tabs of the web page, one per capability of a run."""
