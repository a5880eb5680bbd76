"""How many samples a report draws."""

from feller.core.pytree import leaves
from feller.data.modality import Dataset
from feller.data.tables.mixed import as_table
from feller.data.tables.modality import Table
from feller.data.text.text_modality import Text

MOST_SAMPLES, MOST_LARGE, MOST_TEXTS, MOST_ROWS = 1000, 300, 100, 50_000
"""Drawn for the numbers, of states up to 1,024 numbers, of larger ones, of texts, of rows of a table; not more than the
training set holds, so that the floor is measured at the same size."""


def number_shown(data: Dataset) -> int:
    """Return how many examples are drawn, beside such training data."""
    return min(_most(data), max(len(data), 2))


def _most(data: Dataset) -> int:
    if isinstance(data.modality, Text):
        return MOST_TEXTS
    if isinstance(as_table(data).modality, Table):
        return MOST_ROWS
    numbers = sum(leaf[0].numel() for leaf in leaves(data.values))
    return MOST_SAMPLES if numbers <= 1024 else MOST_LARGE
