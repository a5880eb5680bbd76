"""Small organic molecules with their computed shapes."""

import pathlib
from dataclasses import replace

import torch

from feller.data.modality import Dataset
from feller.data.molecules.collect import find_molecules
from feller.data.molecules.modality import molecules

MOLECULES_TRAIN = 600
"""Molecules of `train`; those after them are of the test part of the usual division of QM9."""


def small_molecules(part: str) -> Dataset:
    """Return the 600 molecules of `train` or the 150 of `test`, of H, C, N, O and F."""
    whole = molecules(find_molecules(pathlib.Path(__file__).with_name("molecules.xyz.gz")))
    rows = torch.arange(len(whole))
    return replace(whole.subset(rows[:MOLECULES_TRAIN] if part == "train" else rows[MOLECULES_TRAIN:]), notes=())
