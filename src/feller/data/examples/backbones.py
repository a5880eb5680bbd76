"""Short protein chains from crystal structures, and their sequences."""

import pathlib

import numpy as np

from feller.data.files.numpy_files import load
from feller.data.loading.raw import FoundChains
from feller.data.modality import Dataset
from feller.data.proteins.backbones import backbones
from feller.data.proteins.modality import proteins

BACKBONES_TRAIN = 40
"""Chains of `train`; those after them are like none of these in sequence."""
BACKBONES_UNIT = 1e-3
"""Å, in which the file counts: the precision of PDB files."""


def protein_chains(part: str) -> Dataset:
    """Return the 40 chains of `train` or the 10 of `test`, of 30 to 64 residues."""
    train = backbones(_found("train"))
    if part == "train":
        return train
    return Dataset(*train.modality.accept(_found(part)), train.modality)


def protein_chains_with_sequences(part: str) -> Dataset:
    """Return the same chains, with their sequences."""
    train = proteins(_found("train"))
    if part == "train":
        return train
    return Dataset(*train.modality.accept(_found(part)), train.modality)


def _found(part: str) -> FoundChains:
    arrays = load(pathlib.Path(__file__).with_name("backbones.npz"))
    lengths = arrays["lengths"].astype(np.int64)
    valid = np.arange(lengths.max()) < lengths[:, None]
    values, residues = np.zeros((*valid.shape, 4, 3)), np.full(valid.shape, -1)
    values[valid], residues[valid] = arrays["atoms"] * BACKBONES_UNIT, arrays["residues"]
    rows = slice(BACKBONES_TRAIN) if part == "train" else slice(BACKBONES_TRAIN, None)
    return FoundChains(values[rows], lengths=lengths[rows], residues=residues[rows])
