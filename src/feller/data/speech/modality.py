"""The phones of sounds in their order, as values hold them or as the labels of frames follow each other."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from feller.core.pytree import Given, State
from feller.data.loading.raw import Layout


def layouts(values: State, given: Given, names: Sequence[str]) -> list[Layout]:
    """Return the phones of each sound: as values know them, or else as the labels of frames follow each other.

    Args:
        values: As `Speech` holds them.
        given: Beside them.
        names: Of the phones, by their positions.
    """
    if "phone" in values:
        rows = zip(values["phone"].tolist(), values["duration"].tolist(), strict=True)
        kept = [[(p, d) for p, d in zip(phone, duration, strict=True) if p >= 0] for phone, duration in rows]
    elif "phone" in given and "valid" in given:
        rows = zip(given["phone"].cpu(), given["valid"].cpu(), strict=True)
        kept = [[(p, len([*run])) for p, run in groupby(labels[mask].tolist())] for labels, mask in rows]
    else:
        return []
    return [Layout(tuple(names[p] for p, _ in row), tuple(d for _, d in row)) for row in kept]


def timed(layout: Layout) -> tuple[tuple[str, int, int], ...]:
    """Return the phones that last, with their first frames."""
    starts = np.cumsum((0, *layout.durations))
    placed = zip(layout.phones, starts.tolist(), layout.durations, strict=False)
    return tuple((name, start, length) for name, start, length in placed if length)
