"""Metrics of points in the plane and on manifolds."""

import dataclasses
import math

import pytest
import torch

from feller.core.rng import RandomStream, Rng
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.evaluation.comparison import flat_states
from feller.evaluation.density_baselines import baseline_nll, manifold_points
from feller.evaluation.point_metrics import geodesic_distances, geodesic_energy, geometric_quality, points_quality
from feller.evaluation.two_sample import sliced_wasserstein
from feller.spaces import SO3, Sphere, Torus
from tests.errors import refuses


@pytest.fixture(scope="module")
def board() -> tuple[Dataset, Dataset, Dataset]:
    real = read("example:checkerboard")
    return tuple(real.subset(torch.arange(start, start + 2000)) for start in (0, 2000, 4000))


def test_real_points(board: tuple[Dataset, Dataset, Dataset]) -> None:
    numbers = points_quality(*board, Rng(0))
    assert 0.3 < numbers["sliced_w"] / numbers["sliced_w_floor"] < 3
    assert 0.3 < numbers["energy"] / numbers["energy_floor"] < 3
    assert 0.85 < numbers["nearest_ratio"] < 1.15
    assert numbers == points_quality(*board, Rng(0))


def test_directions_are_drawn_once(board: tuple[Dataset, Dataset, Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """For points with many entries, the directions take longer than the distances."""
    draw, shapes = RandomStream.normal, []

    def counted(stream: RandomStream, shape: tuple[int, ...], *rest: object) -> torch.Tensor:
        shapes.append(shape)
        return draw(stream, shape, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(RandomStream, "normal", counted)
    numbers = points_quality(*board, Rng(0))
    assert shapes == [(128, 2)]
    states, real = (flat_states(board[i], board[1]) for i in (0, 2))
    assert numbers["sliced_w"] == pytest.approx(sliced_wasserstein(states, real, Rng(0)))


def test_uniform_points_against_a_checkerboard(board: tuple[Dataset, Dataset, Dataset]) -> None:
    values = 4 * Rng(0).stream("x").uniform((2000, 2), torch.float64) - 2
    numbers = points_quality(dataclasses.replace(board[0], values=values), *board[1:], Rng(0))
    assert numbers["sliced_w"] > 1.5 * numbers["sliced_w_floor"]
    assert numbers["energy"] > 3 * numbers["energy_floor"]
    assert numbers["nearest_ratio"] > 1.3


def test_sliced_wasserstein_of_a_shift(board: tuple[Dataset, Dataset, Dataset]) -> None:
    """W1 of a shift by 5 deviations along one axis is 5 * 2/pi, up to the direction's chance and the floor."""
    scale = torch.tensor(board[1].modality.scale, dtype=torch.float64)
    shift = torch.tensor([5.0, 0.0], dtype=torch.float64) * scale
    moved = dataclasses.replace(board[0], values=board[0].values + shift)
    assert points_quality(moved, *board[1:], Rng(0))["sliced_w"] == pytest.approx(10 / torch.pi, rel=0.15)


def test_units_do_not_matter(board: tuple[Dataset, Dataset, Dataset]) -> None:
    modality = board[1].modality
    unit = torch.tensor([1e6, 1e-3], dtype=torch.float64)
    other = dataclasses.replace(
        modality,
        mean=tuple((torch.tensor(modality.mean, dtype=torch.float64) * unit).tolist()),
        scale=tuple((torch.tensor(modality.scale, dtype=torch.float64) * unit).tolist()),
    )
    changed = [dataclasses.replace(part, values=part.values * unit, modality=other) for part in board]
    assert points_quality(*changed, Rng(0)) == pytest.approx(points_quality(*board, Rng(0)), rel=1e-3)


@pytest.mark.parametrize("n", [0, 20])
def test_too_few_held_out_points(
    board: tuple[Dataset, Dataset, Dataset], angles: tuple[Dataset, Dataset, Dataset], n: int
) -> None:
    found = [
        quality(samples, train, held_out.subset(torch.arange(n)), Rng(0))
        for quality, (samples, train, held_out) in ((points_quality, board), (geometric_quality, angles))
    ]
    plane, torus = ({name for name, value in numbers.items() if value is None} for numbers in found)
    assert plane == {"sliced_w_floor", "chance_factor", "energy_floor", "nearest_ratio"}
    assert torus == {"energy_geodesic_floor", "chance_factor", "nearest_ratio", "nll_baseline"}
    assert found[0]["sliced_w"] < 0.1


F64 = torch.float64


@pytest.fixture(scope="module")
def angles() -> tuple[Dataset, Dataset, Dataset]:
    real = read("example:torsions")
    return tuple(real.subset(torch.arange(start, start + 600)) for start in (0, 600, 1200))


def test_geodesic_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (Sphere(2).project(Rng(n).stream("x").normal((n, 3), F64)) for n in (7, 5))
    truth = (a @ b.T).clamp(-1, 1).acos()
    torch.testing.assert_close(geodesic_distances(Sphere(2), a, b), truth, atol=1e-7, rtol=1e-7)
    monkeypatch.setattr("feller.evaluation.point_metrics.CHUNK", 11)
    torch.testing.assert_close(geodesic_distances(Sphere(2), a, b), truth, atol=1e-7, rtol=1e-7)


def test_geodesic_energy_of_points() -> None:
    north, east = torch.tensor([[0.0, 0, 1]], dtype=F64), torch.tensor([[0.0, 1, 0]], dtype=F64)
    assert geodesic_energy(Sphere(2), north, east) == pytest.approx(math.pi)
    near = torch.tensor([[0.1, 3.0]], dtype=F64), torch.tensor([[2 * math.pi - 0.2, 3.4]], dtype=F64)
    assert geodesic_energy(Torus((2,)), *near) == pytest.approx(2 * math.hypot(0.3, 0.4))
    turn = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]], dtype=F64)
    assert geodesic_energy(SO3(), turn, torch.eye(3, dtype=F64)[None]) == pytest.approx(math.pi)
    assert geodesic_energy(Sphere(2), north, north) == 0
    with refuses(ValueError):
        geodesic_energy(Sphere(2), north[:0], east)


def test_geodesic_energy_of_poles() -> None:
    """E d = pi/2 for independent uniform points; the closed form of two poles against one: (2 pi/2 - pi/2) / 1."""
    poles = torch.tensor([[0.0, 0, 1], [0, 0, -1]], dtype=F64)
    # between: (0 + pi) / 2; within the two: (0 + pi + pi + 0) / 4; within the one: 0
    assert geodesic_energy(Sphere(2), poles, poles[:1]) == pytest.approx(math.pi / 2)


def test_real_angles(angles: tuple[Dataset, Dataset, Dataset]) -> None:
    numbers = geometric_quality(*angles, Rng(0))
    assert 0.2 < numbers["energy_geodesic"] / numbers["energy_geodesic_floor"] < 5
    assert 0.8 < numbers["nearest_ratio"] < 1.25
    assert 1.5 < numbers["nll_baseline"] < 3.5  # 4 log 2 pi = 7.35 is that of the uniform law


def test_uniform_angles(angles: tuple[Dataset, Dataset, Dataset]) -> None:
    uniform = 360 * Rng(0).stream("x").uniform((600, 4), F64)
    numbers = geometric_quality(dataclasses.replace(angles[0], values=uniform), *angles[1:], Rng(0))
    assert numbers["energy_geodesic"] > 20 * numbers["energy_geodesic_floor"]
    assert numbers["nearest_ratio"] > 3


def test_full_turns_do_not_matter(angles: tuple[Dataset, Dataset, Dataset]) -> None:
    turned = [dataclasses.replace(part, values=part.values + 360) for part in angles]
    before, after = geometric_quality(*angles, Rng(0)), geometric_quality(*turned, Rng(0))
    assert after == pytest.approx(before, rel=1e-4)


def test_held_out_copies_have_no_nearest_ratio(
    board: tuple[Dataset, Dataset, Dataset], angles: tuple[Dataset, Dataset, Dataset]
) -> None:
    for quality, (samples, train, _) in ((points_quality, board), (geometric_quality, angles)):
        assert quality(samples, train, train, Rng(0))["nearest_ratio"] is None


def test_baseline_nll(angles: tuple[Dataset, Dataset, Dataset]) -> None:
    train, held_out = read("example:volcano"), read("example:volcano/test")
    assert -4 < baseline_nll(train, held_out, Rng(0)) < 0
    assert torch.equal(manifold_points(held_out).norm(dim=1).round(decimals=12), torch.ones(83, dtype=F64))
    assert baseline_nll(read("example:moons"), read("example:moons/test"), Rng(0)) is None
