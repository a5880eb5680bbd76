"""Networks for token sequences and table rows."""
