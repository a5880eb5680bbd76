"""Muscle cells at four times after their medium was changed."""

import pathlib
from dataclasses import replace

import numpy as np

from feller.core.rng import Draws
from feller.data.examples.registry import HOURS
from feller.data.loading.raw import FoundRows
from feller.data.modality import Dataset, told
from feller.data.points.points import points
from feller.data.points.rows_tables import find_table
from feller.data.split import split

COMPONENTS = 5
"""First principal components that are read, of the ten that the file holds."""
CELLS_TEST = 54


def cells(part: str) -> Dataset:
    """Return all 69, 74, 79 or 49 cells of an hour, or 217 of all hours as `train` and 54 as `test`, alike in hours.

    All parts have the scales of all cells. `pseudotime` is told beside each, and the branch that it is on, `state`.
    """
    table = find_table(pathlib.Path(__file__).with_name("cells.csv.gz"))
    column = {name: table.values[:, i] for i, name in enumerate(table.columns)}
    found = FoundRows(
        table.values[:, :COMPONENTS],
        columns=table.columns[:COMPONENTS],
        labels=np.searchsorted([float(hour) for hour in HOURS], column["hours"]),
        classes=HOURS,
        properties={name: column[name] for name in ("pseudotime", "state")},
    )
    whole = replace(points(found), properties=told(found))
    if part in HOURS:
        plain = points(replace(found, labels=None, classes=()))
        rows = (whole.given["label"] == HOURS.index(part)).nonzero()[:, 0]
        return replace(plain, properties=whole.properties).subset(rows)
    train, test = split(whole, CELLS_TEST / len(whole), Draws(0).named("example:cells"))
    return train if part == "train" else test
