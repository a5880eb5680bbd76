"""Crystals, however their cell is chosen: their elements, and how far the neighbours of their atoms are."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float64
from scipy.spatial.distance import cdist
from torch import Tensor

from feller.data.crystals.cif import Crystal
from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset
from feller.evaluation.attacks.measure import Apart
from feller.evaluation.crystals import NEAR, OTHER, formula_of, looked, seen_before


@dataclass(frozen=True)
class Lattices(Apart):
    """Differences of mean distances to neighbours and of elements, each in units of those of crystals that are alike.

    Copies have one formula, and neighbours at distances that differ by 0.02 Å at most. Needs pymatgen.
    """

    most = 1_000
    asked = 1_000
    among = 2_000

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Add both."""
        first, second = (looked(_crystals(data)) for data in (a, b))
        near = cdist(first.distances(), second.distances(), "chebyshev") / NEAR
        return torch.from_numpy(near + cdist(first.shares(), second.shares(), "cityblock") / 2 / OTHER)

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look among training crystals of the same formula."""
        asked = _crystals(some)
        formulas = {formula_of(one) for one in asked}
        there = [one for one in _crystals(train) if formula_of(one) in formulas]
        return torch.from_numpy(seen_before(looked(asked), looked(there)))


def _crystals(data: Dataset) -> list[Crystal]:
    return cast(Crystals, data.modality).crystals(data.values, data.given)
