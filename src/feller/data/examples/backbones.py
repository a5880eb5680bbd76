"""Short protein chains from crystal structures."""

import pathlib

import numpy as np

from feller.data.arrays import load
from feller.data.backbones import backbones
from feller.data.found import Found
from feller.data.modality import Dataset

TRAIN = 40
"""Chains of `train`; those after them are like none of these in sequence."""
UNIT = 1e-3
"""Å, in which the file counts: the precision of PDB files."""


def protein_chains(part: str) -> Dataset:
    """Return the 40 chains of `train` or the 10 of `test`, of 30 to 64 residues."""
    arrays = load(pathlib.Path(__file__).with_name("backbones.npz"))
    lengths = arrays["lengths"].astype(np.int64)
    values = np.zeros((len(lengths), lengths.max(), 4, 3))
    values[np.arange(values.shape[1]) < lengths[:, None]] = arrays["atoms"] * UNIT
    train = backbones(Found(values[:TRAIN], lengths=lengths[:TRAIN]))
    if part == "train":
        return train
    return Dataset(*train.modality.accept(Found(values[TRAIN:], lengths=lengths[TRAIN:])), train.modality)
