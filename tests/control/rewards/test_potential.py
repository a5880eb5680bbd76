"""Energies of crystals: the gradient in fractional coordinates, against differences of a potential in closed form."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from feller.control.rewards.potential import Cell, Energy, chgnet, crystal_wish
from feller.core.errors import UsageError
from feller.data.crystals.modality import Crystals
from feller.data.loading.read import read
from feller.data.modality import Dataset
from tests.oracle import close


def springs(cells: Sequence[Cell]) -> list[tuple[float, np.ndarray]]:
    """Return energies per atom of springs from the origin to each atom, stiffer for heavier ones."""
    found = []
    for edges, numbers, places in cells:
        at = places @ edges
        stiff = numbers[:, None] / 10
        found.append((float((stiff * at**2).sum() / 2 / len(numbers)), -stiff * at))
    return found


@pytest.fixture(scope="module")
def few() -> Dataset:
    return read("example:perovskites").subset(torch.arange(3))


def test_the_slope_is_minus_the_force(few: Dataset) -> None:
    assert isinstance(few.modality, Crystals)
    wish = Energy(few.modality, springs)
    place = (few.values["place"] + 0.01).requires_grad_()
    values = {**few.values, "lattice": few.values["lattice"] + torch.tensor([0.0, 0, 0, 3, 5, 7])}

    def energy(at: torch.Tensor) -> torch.Tensor:
        return wish({**values, "place": at}, few.given)

    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad((weights * energy(place)).sum(), place)
    h = 1e-5
    for atom in range(5):
        for axis in range(3):
            step = torch.zeros_like(place)
            step[:, atom, axis] = h
            with torch.no_grad():
                ratio = (energy(place + step) - energy(place - step)) / (2 * h)
            close(slope[:, atom, axis], (weights * ratio).tolist(), 1e-5)
    assert slope.abs().min() > 1e-3


def test_a_missing_package_and_other_wishes_are_told(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chgnet.cache_clear()
    for name in ("chgnet", "chgnet.model", "chgnet.model.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="chgnet=energy needs chgnet"):
        crystal_wish(few.modality, "energy")
    with pytest.raises(UsageError, match="chgnet tells no 'magmom'"):
        crystal_wish(few.modality, "magmom")
