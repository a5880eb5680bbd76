"""Perovskites: cubic cells of five atoms, from calculations."""

import pathlib

import numpy as np

from feller.data.crystals.modality import crystals
from feller.data.files.numpy_files import load
from feller.data.loading.raw import FoundCrystals
from feller.data.modality import Dataset

PEROVSKITES_TRAIN = 2_000
"""Cells of `train`; those after them are `test`."""
PEROVSKITES_UNIT = 1e-5
"""In which the file counts edges, in Å, and places, in edges."""


def perovskites(part: str) -> Dataset:
    """Return the 2,000 cells of `train` or the 500 of `test`."""
    arrays = load(pathlib.Path(__file__).with_name("perovskites.npz"))
    atoms, places = arrays["element"].astype(np.int64), arrays["place"] * PEROVSKITES_UNIT
    lattice = np.full((len(atoms), 6), 90.0)
    lattice[:, :3] = arrays["edge"][:, None] * PEROVSKITES_UNIT
    train = crystals(
        FoundCrystals(places[:PEROVSKITES_TRAIN], atoms=atoms[:PEROVSKITES_TRAIN], lattice=lattice[:PEROVSKITES_TRAIN])
    )
    if part == "train":
        return train
    held_out = FoundCrystals(
        places[PEROVSKITES_TRAIN:], atoms=atoms[PEROVSKITES_TRAIN:], lattice=lattice[PEROVSKITES_TRAIN:]
    )
    return Dataset(*train.modality.accept(held_out), train.modality)
