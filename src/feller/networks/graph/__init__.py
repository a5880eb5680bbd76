"""Networks for sets of points and atoms."""
