"""Numbers as people write them into files."""

from collections.abc import Iterable


def number(cell: str) -> float | None:
    """Return a number, not-a-number for an empty cell, or None for a word."""
    try:
        return None if "_" in cell else float(cell or "nan")
    except ValueError:
        return None


def all_numbers(cells: Iterable[str]) -> bool:
    """Tell whether no cell is a word; such a row is not one of names."""
    return all(number(cell) is not None for cell in cells)
