"""Rewards: what a user's function may get wrong is told; and energies of crystals against differences."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from feller.control.rewards.crystal_energy import Cell, CrystalEnergy, chgnet, crystal_reward
from feller.control.rewards.reward import evaluate_reward, reward_gradient
from feller.core.errors import InputError, UsageError
from feller.data.crystals.modality import Crystals
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from tests.errors import refuses
from tests.oracle import close, column

X = column(1.0, 2.0, 3.0)


def test_gradient_of_a_reward() -> None:
    values, slope = reward_gradient(lambda x, given: x.square().sum(1), X, {})
    close(values, (1.0, 4.0, 9.0), 1e-12)
    close(slope, (2.0, 4.0, 6.0), 1e-12)
    assert not slope.requires_grad
    assert not X.requires_grad


def test_gradient_of_unused_leaves_is_zero() -> None:
    state = {"a": X, "b": X.clone()}
    _, slope = reward_gradient(lambda x, given: x["a"].sum(1), state, {})
    close(slope["a"], (1.0, 1.0, 1.0), 0)
    close(slope["b"], (0.0, 0.0, 0.0), 0)


@pytest.mark.parametrize(
    "reward",
    [
        lambda x, given: x,
        lambda x, given: x.sum(),
        lambda x, given: 3.0,
        lambda x, given: x[:, 0].log() / (x[:, 0] - 1),  # nan
        lambda x, given: x[:, 0].round().detach(),
        lambda x, given: (x[:, 0] > 1).double(),
        lambda x, given: (x[:, 0] - 2).abs().sqrt(),  # a gradient that is not finite
    ],
)
def test_invalid_rewards(reward) -> None:
    with refuses(InputError):
        reward_gradient(reward, X, {})


def test_evaluate_reward_without_gradient() -> None:
    close(evaluate_reward(lambda x, given: x[:, 0].round(), X, {}), (1.0, 2.0, 3.0), 0)


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


def test_gradient_of_crystal_energy(few: Dataset) -> None:
    assert isinstance(few.modality, Crystals)
    wish = CrystalEnergy(few.modality, springs)
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


def test_missing_package_and_unknown_property(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chgnet.cache_clear()
    for name in ("chgnet", "chgnet.model", "chgnet.model.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with refuses(UsageError):
        crystal_reward(few.modality, "energy")
    with refuses(UsageError, argument="reward", found="'magmom'"):
        crystal_reward(few.modality, "magmom")
