"""Cryptographically seeded noise on a grid."""
