"""What steering and tuning wish for, and the flows that they search."""
