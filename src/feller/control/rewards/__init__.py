"""Rewards: built-in, user-defined, of molecules and of crystals."""
