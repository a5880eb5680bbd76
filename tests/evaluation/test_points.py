import dataclasses

import pytest
import torch

from feller.core.rng import Draws
from feller.data.loading.read import read
from feller.data.modality import Dataset
from feller.evaluation.points import points_quality


@pytest.fixture(scope="module")
def board() -> tuple[Dataset, Dataset, Dataset]:
    """Samples, training data and held-out data, all of one law."""
    real = read("example:checkerboard")
    return tuple(real.subset(torch.arange(start, start + 2000)) for start in (0, 2000, 4000))


def test_real_points_are_as_good_as_real(board: tuple[Dataset, Dataset, Dataset]) -> None:
    numbers = points_quality(*board, Draws(0))
    assert 0.3 < numbers["sliced_w"] / numbers["sliced_w_floor"] < 3
    assert 0.3 < numbers["energy"] / numbers["energy_floor"] < 3
    assert 0.85 < numbers["nearest_ratio"] < 1.15
    assert numbers == points_quality(*board, Draws(0))


def test_points_from_a_filled_square_are_told_from_a_checkerboard(board: tuple[Dataset, Dataset, Dataset]) -> None:
    values = 4 * Draws(0).at("x").uniform((2000, 2), torch.float64) - 2
    numbers = points_quality(dataclasses.replace(board[0], values=values), *board[1:], Draws(0))
    assert numbers["sliced_w"] > 1.5 * numbers["sliced_w_floor"]
    assert numbers["energy"] > 3 * numbers["energy_floor"]
    assert numbers["nearest_ratio"] > 1.3


def test_a_shift_is_measured_in_deviations(board: tuple[Dataset, Dataset, Dataset]) -> None:
    """W1 of a shift by 5 deviations along one axis is 5 * 2/pi, up to the direction's chance and the floor."""
    scale = torch.tensor(board[1].modality.scale, dtype=torch.float64)
    shift = torch.tensor([5.0, 0.0], dtype=torch.float64) * scale
    moved = dataclasses.replace(board[0], values=board[0].values + shift)
    assert points_quality(moved, *board[1:], Draws(0))["sliced_w"] == pytest.approx(10 / torch.pi, rel=0.15)


def test_units_do_not_matter(board: tuple[Dataset, Dataset, Dataset]) -> None:
    modality = board[1].modality
    unit = torch.tensor([1e6, 1e-3], dtype=torch.float64)
    other = dataclasses.replace(
        modality,
        mean=tuple((torch.tensor(modality.mean, dtype=torch.float64) * unit).tolist()),
        scale=tuple((torch.tensor(modality.scale, dtype=torch.float64) * unit).tolist()),
    )
    changed = [dataclasses.replace(part, values=part.values * unit, modality=other) for part in board]
    assert points_quality(*changed, Draws(0)) == pytest.approx(points_quality(*board, Draws(0)), rel=1e-3)


@pytest.mark.parametrize("n", [0, 20])
def test_without_held_out_data_there_is_no_floor(board: tuple[Dataset, Dataset, Dataset], n: int) -> None:
    numbers = points_quality(board[0], board[1], board[2].subset(torch.arange(n)), Draws(0))
    assert {name for name, value in numbers.items() if value is None} == {
        "sliced_w_floor",
        "chance_factor",
        "energy_floor",
        "nearest_ratio",
    }
    assert numbers["sliced_w"] < 0.1


def test_copies_among_the_held_out_give_no_ratio(board: tuple[Dataset, Dataset, Dataset]) -> None:
    assert points_quality(board[0], board[1], board[1], Draws(0))["nearest_ratio"] is None
