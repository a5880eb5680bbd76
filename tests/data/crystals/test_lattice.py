"""Cells as numbers and back: closed forms, angles that do not close, pymatgen as the second implementation."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice
from scipy.optimize import minimize

from feller.data.crystals.lattice import (
    LONGEST,
    MARGIN,
    SHORTEST,
    bounded,
    closed,
    closes,
    slack,
    unbounded,
    vectors,
    volume,
)

angle = st.floats(0.5, 179.5)
F64 = torch.float64


def cells(n: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, 6, generator=draw, dtype=F64)
    return bounded(numbers * torch.tensor([0.5] * 6) + torch.tensor([1.5] * 3 + [0.0] * 3))


def test_numbers_of_known_cells() -> None:
    lattice = torch.tensor([[1.0, np.e, np.e**2, 90.0, 60.0, 120.0]])
    expected = torch.tensor([[0, 1, 2, 0, -np.log(3) / 2, np.log(3) / 2]], dtype=F64)
    torch.testing.assert_close(unbounded(lattice.double()), expected)
    torch.testing.assert_close(bounded(expected), lattice.double())


def test_numbers_are_radians_near_a_right_angle() -> None:
    lattice = torch.tensor([[1.0, 1, 1, 90.1, 89.9, 90]], dtype=F64)
    torch.testing.assert_close(unbounded(lattice)[0, 3:], torch.deg2rad(lattice[0, 3:] - 90), atol=1e-8, rtol=0)


def test_cells_come_back() -> None:
    lattice = cells(200)
    torch.testing.assert_close(bounded(unbounded(lattice)), lattice, rtol=1e-12, atol=1e-9)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(angle, angle, angle)
def test_nearest_angles_that_close(alpha: float, beta: float, gamma: float) -> None:
    """Against a general minimiser under the four constraints."""
    own = torch.tensor([[alpha, beta, gamma]], dtype=F64)
    found = closed(own)
    assert (slack(found) >= MARGIN - 1e-9).all()
    if (slack(own) >= MARGIN).all():
        assert torch.equal(found, own)
        return

    def room(x: np.ndarray) -> np.ndarray:
        return np.array([360 - x.sum(), *(x.sum() - 2 * x)]) - MARGIN

    best = minimize(
        lambda x: ((x - own[0].numpy()) ** 2).sum(),
        np.array([90.0, 90, 90]),
        constraints={"type": "ineq", "fun": room},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    np.testing.assert_allclose(found[0].numpy(), best.x, atol=1e-4)


def test_every_number_gives_a_cell() -> None:
    """Also far from all data: pymatgen finds the same volume, above zero."""
    numbers = 6 * torch.randn(300, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
    numbers[0], numbers[1] = 1e4, -1e4
    lattice = bounded(numbers)
    assert closes(lattice).all()
    assert lattice[:, :3].min() >= SHORTEST
    assert lattice[:, :3].max() <= LONGEST
    truth = [Lattice.from_parameters(*row).volume for row in lattice.tolist()]
    np.testing.assert_allclose(volume(lattice).numpy(), truth, rtol=1e-6)
    assert volume(lattice).min() > 0


def test_vectors_are_those_of_their_lengths_and_angles() -> None:
    lattice = cells(100, 3)
    edges = vectors(lattice)
    for row, own in zip(lattice.tolist(), edges.numpy(), strict=True):
        np.testing.assert_allclose(Lattice(own).parameters, row, rtol=1e-8)
    torch.testing.assert_close(torch.linalg.det(edges), volume(lattice), rtol=1e-9, atol=0)


def test_flat_cells_do_not_close() -> None:
    flat = [[1, 1, 1, 120, 120, 120], [1, 1, 1, 30, 60, 90], [0, 1, 1, 90, 90, 90], [1, 1, np.nan, 90, 90, 90]]
    assert not closes(torch.tensor(flat, dtype=F64)).any()
    assert closes(torch.tensor([[1, 1, 1, 119, 120, 120]], dtype=F64)).all()
