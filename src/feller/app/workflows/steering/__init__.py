"""Steering of samples: rewards, measurements, inverse problems and reward search."""
