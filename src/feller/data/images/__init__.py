"""Images: files of many sizes and modes, and arrays of pixels."""
