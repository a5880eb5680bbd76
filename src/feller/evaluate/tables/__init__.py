"""How good a table of rows that nobody is behind is, over codes of its columns."""
