"""Tabs of the web page, such as sampling, steering and reports; a run has only the tabs that its model supports."""
