"""Text: how letters become symbols, and files of text examples."""
