"""What pages about a run are put together of."""
