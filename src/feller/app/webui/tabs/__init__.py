"""Tabs of the page, one ability each."""
