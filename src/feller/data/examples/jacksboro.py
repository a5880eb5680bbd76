"""Hills at a fault near Jacksboro, Tennessee, as points on their surface."""

import pathlib

import numpy as np
from jaxtyping import Float64

from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.data.files.numpy_files import load
from feller.data.loading.raw import FoundRows
from feller.data.modality import Dataset
from feller.data.points.points import points
from feller.data.split import split

EVERY = 3
"""Nodes of the grid of heights from one point to the next, in both directions."""
JACKSBORO_TEST = 0.1


def jacksboro(part: str) -> Dataset:
    """Return 13,973 points of `train` or 1,552 of `test`: x to the east and y to the north in [-5, 5], z up in [0, 2].

    A unit is 3.0 km to the east, 3.2 km to the north and 420 m up: scaled by least and largest, as the mountain of
    "Generalized Schrödinger bridge matching" is.
    """
    whole = points(FoundRows(surface(), columns=("x", "y", "z")))
    train, test = split(whole, JACKSBORO_TEST, Draws(0).named("example:jacksboro"))
    return train if part == "train" else test


def surface() -> Float64[np.ndarray, "n 3"]:
    """Return all points, row by row from the north."""
    from matplotlib.cbook import get_sample_data

    try:
        place = str(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))
    except FileNotFoundError as error:
        raise InputError("this matplotlib came without its sample data; install it from PyPI") from error
    heights = load(pathlib.Path(place))["elevation"][::EVERY, ::EVERY].astype(np.float64)
    rows, columns = heights.shape
    north, east = np.meshgrid(np.linspace(5, -5, rows), np.linspace(-5, 5, columns), indexing="ij")
    up = 2 * (heights - heights.min()) / (heights.max() - heights.min())
    return np.stack([east, north, up], axis=-1).reshape(-1, 3)
