"""Jump processes of real numbers, angles and rotations."""
