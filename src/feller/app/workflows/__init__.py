"""Workflows behind the commands and Python functions: fit, sample, evaluate, audit, steer, tune, bridge and export."""
