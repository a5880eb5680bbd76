"""Tabs of the page, one per capability."""
