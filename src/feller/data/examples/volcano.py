"""Volcanic eruptions on the earth."""

import pathlib

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.points.earth import earth
from feller.data.points.rows_tables import find_table
from feller.data.split import split

VOLCANO_TEST = 83


def volcano(part: str) -> Dataset:
    """Return the 744 eruptions of `train` or the 83 of `test`, some of which are at the same place."""
    whole = earth(find_table(pathlib.Path(__file__).with_name("volcano.csv")))
    train, test = split(whole, VOLCANO_TEST / len(whole), Draws(0).named("example:volcano"))
    return train if part == "train" else test
