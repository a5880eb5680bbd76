"""Images: image files of any size and colour mode, and arrays of pixels."""
