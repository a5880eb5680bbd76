"""Steering and fine-tuning: inverse problems, rewards, and Schrödinger bridges."""
