"""Texts with characters that a sample lacks: they are looked for in all of them."""

from collections.abc import Iterator

import numpy as np

from feller.data.shards.source import Source

TOGETHER = 4096
"""Texts that are looked at together."""


def strangers(source: Source, known: str) -> np.ndarray:
    """Return the numbers of texts that have a character that none before them has."""
    seen, found = set(known), []
    for number, text in _texts(source):
        new = set(text) - seen
        if new:
            seen |= new
            found.append(number)
    return np.array(found, dtype=np.int64)


def _texts(source: Source) -> Iterator[tuple[int, str]]:
    for start in range(0, len(source), TOGETHER):
        numbers = np.arange(start, min(start + TOGETHER, len(source)))
        yield from zip(numbers.tolist(), source.found(numbers).values, strict=True)
