"""Text: vocabularies, tokenisation and text files."""
