"""Pinned paths between the members of two populations, and drifts that follow them."""
