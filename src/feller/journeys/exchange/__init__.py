"""What comes from elsewhere and what goes there."""
