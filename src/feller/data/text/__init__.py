"""Text data: vocabularies, tokenisation and text files."""
