"""Torsion angles of tryptophan in crystal structures of proteins."""

import pathlib

import torch

from feller.data.modality import Dataset
from feller.data.points.rows_tables import find_table
from feller.data.points.rows_torsions import torsions

TORSIONS_TRAIN = 7_003
"""Rows of `train`; those after them are residues of other proteins."""


def torsion_angles(part: str) -> Dataset:
    """Return phi, psi, chi1 and chi2 of the 7,003 residues of `train` or the 997 of `test`."""
    whole = torsions(find_table(pathlib.Path(__file__).with_name("torsions.csv.gz")))
    rows = torch.arange(len(whole))
    return whole.subset(rows[:TORSIONS_TRAIN] if part == "train" else rows[TORSIONS_TRAIN:])
