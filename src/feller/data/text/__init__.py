"""Text: vocabularies, tokenisation and files of texts."""
