"""Images: files of any size and mode, and arrays of pixels."""
