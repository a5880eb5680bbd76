"""Jump processes of numbers, angles and rotations."""
