"""Molecules, whose atoms have no order and which may be turned: how many pairs of which elements lie how far apart."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from feller.data.modality import Dataset
from feller.data.molecules.modality import molecules_of
from feller.data.molecules.molecule import Molecule
from feller.evaluation.attacks.measure import Apart

NEAREST, FARTHEST, STEP = 0.5, 10.0, 0.25
"""Distances of atoms at which pairs are counted, in Å; farther ones count at the last."""
SAME_CLOUD = 0.1
"""Root mean square difference of all distances in molecules that count as one, in Å."""
Lines = dict[tuple[int, int], np.ndarray]
"""Two elements -> sorted distances of all their pairs of atoms, in Å."""


@dataclass(frozen=True)
class Clouds(Apart):
    """Smoothed counts of pairs at each distance, the root of the sum of squared differences; mirrors are alike."""

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Compare counts."""
        first, second = ([lines_of(one) for one in molecules_of(data)] for data in (a, b))
        pairs = sorted({pair for lines in (*first, *second) for pair in lines})
        return torch.cdist(*(_counts(lines, pairs) for lines in (first, second)))

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look among molecules of the same formula for one with the same distances."""
        asked, there = _by_formula(molecules_of(some)), _by_formula(molecules_of(train))
        found = torch.zeros(len(some), dtype=torch.bool)
        for formula, (which, rows) in asked.items():
            if formula in there:
                _, known = there[formula]
                size = max(1, rows.shape[1])
                found[which] = torch.cdist(rows, known).amin(1) <= SAME_CLOUD * size**0.5
        return found


def lines_of(molecule: Molecule) -> Lines:
    """Return the distances of a molecule's atoms, which neither their order nor a turn changes."""
    i, j = np.triu_indices(len(molecule.atoms), 1)
    ends, far = np.sort(molecule.atoms[np.stack([i, j])], axis=0), molecule.distances()[i, j]
    pairs = {(int(a), int(b)) for a, b in ends.T}
    alone = {(int(a), 0): np.full(int((molecule.atoms == a).sum()), 0.0) for a in np.unique(molecule.atoms)}
    return alone | {pair: np.sort(far[((ends[0] == pair[0]) & (ends[1] == pair[1]))]) for pair in pairs}


def _counts(several: list[Lines], pairs: list[tuple[int, int]]) -> Float64[Tensor, "n k"]:
    """Return for each pair of elements how many atoms are at about each distance, a triangle around each."""
    grid = np.arange(NEAREST, FARTHEST + STEP / 2, STEP)
    rows = np.zeros((len(several), len(pairs), len(grid)))
    place = {pair: k for k, pair in enumerate(pairs)}
    for row, lines in zip(rows, several, strict=True):
        for pair, far in lines.items():
            if far.size:
                where = np.clip((far - NEAREST) / STEP, 0, len(grid) - 1)
                below = np.floor(where).astype(int)
                np.add.at(row[place[pair]], below, 1 - (where - below))
                np.add.at(row[place[pair]], np.minimum(below + 1, len(grid) - 1), where - below)
    return torch.from_numpy(rows.reshape(len(several), -1))


def _by_formula(molecules: list[Molecule]) -> dict[bytes, tuple[list[int], Float64[Tensor, "n k"]]]:
    """Return places and distances of the molecules of each formula."""
    found: dict[bytes, list[int]] = {}
    for i, molecule in enumerate(molecules):
        found.setdefault(np.sort(molecule.atoms).tobytes(), []).append(i)
    return {
        formula: (which, torch.from_numpy(np.stack([_flat(lines_of(molecules[i])) for i in which])))
        for formula, which in found.items()
    }


def _flat(lines: Lines) -> np.ndarray:
    return np.concatenate([lines[pair] for pair in sorted(lines) if pair[1]] or [np.zeros(0)])
