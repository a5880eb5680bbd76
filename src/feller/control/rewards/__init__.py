"""Rewards: built-in rewards, user functions, molecule properties and crystal energies."""
