"""Files of text, numbers and arrays."""
