"""Pictures: files of many sizes and modes, and arrays of levels."""
