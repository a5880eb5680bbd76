"""Rows of a table: numbers in named columns, and the spaces that they are points of."""
