"""Rewards, measurements and flows of steering."""
