"""File formats and figures of all modalities of points."""

import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Modality
from feller.data.points.earth import Earth
from feller.data.points.euclidean_points import Points
from feller.data.points.manifold_points import Entries, ManifoldPoints
from feller.data.points.torsions import Torsions
from feller.spaces import SO3, Manifold, Poincare, Simplex, Sphere
from tests.errors import refuses

CLASSES = ("$b", "_a")
UNIFORM = torch.from_numpy(np.random.default_rng(0).uniform(size=(50, 9)))
ROWS = [
    (Points(("$x$", "y_1"), (0.8, 1.0), (0.7, 3.0), CLASSES), [[1.5, -2.0], [0.1, 4.0]]),
    (Earth(("lat", "lon"), classes=CLASSES), [[10.25, -170.5], [-89.5, 20.0]]),
    (
        Torsions(("phi", "psi", "chi1"), (360.0,) * 3, (180.0, 180.0, 360.0), CLASSES),
        [[-179.5, 180.0, 359.9], [0.0, 1.0, 200.0]],
    ),
]


@pytest.mark.parametrize("name", ["a.npz", "a.csv", "a.tsv", "a.parquet", "folder"])
@pytest.mark.parametrize(("modality", "rows"), ROWS, ids=["points", "earth", "torsions"])
def test_file_round_trip(tmp_path: pathlib.Path, name: str, modality: Modality, rows: list[list[float]]) -> None:
    values = torch.tensor(rows, dtype=torch.float64)
    modality.write(values, {"label": torch.tensor([1, 0])}, tmp_path / name)
    reloaded, given = read_samples(tmp_path / name, modality)
    assert torch.equal(reloaded, values)
    assert given["label"].tolist() == [1, 0]
    found = read(str(tmp_path / name)).modality
    assert (found.columns, found.classes) == (modality.columns, modality.classes)
    assert isinstance(modality, Points) or found == modality
    assert from_dict(Modality, to_dict(modality)) == modality
    if name == "folder":
        assert {path.name for path in (tmp_path / name).iterdir()} == {"samples.csv", "grid.png"}


def test_invalid_turns_are_refused() -> None:
    with refuses(InputError):
        Torsions(("a",), (100.0,), (1.0,))


def on_manifold(manifold: Manifold) -> tuple[Modality, torch.Tensor]:
    points = manifold.sample_base(50, Rng(0).stream("x")).double()
    columns = tuple(f"x{i}" for i in range(points[0].numel()))
    return ManifoldPoints(columns, manifold, Entries(tuple(points.shape[1:])), CLASSES), points.flatten(1)


def euclidean(d: int) -> tuple[Modality, torch.Tensor]:
    return Points(tuple(f"x{i}" for i in range(d)), (0.5,) * d, (0.3,) * d, CLASSES), UNIFORM[:, :d]


def angles(d: int) -> tuple[Modality, torch.Tensor]:
    return Torsions(tuple(f"a{i}" for i in range(d)), (360.0,) * d, (360.0,) * d, CLASSES), 360 * UNIFORM[:, :d]


DRAWN = [*map(euclidean, (1, 2, 3, 9)), *map(angles, (1, 2, 4, 9))]
DRAWN += map(on_manifold, (Sphere(2), Simplex(2), Poincare(2), SO3()))


@pytest.mark.parametrize(("modality", "values"), DRAWN, ids=range(len(DRAWN)))
def test_figure(modality: Modality, values: torch.Tensor) -> None:
    figure = modality.show(values, {"label": torch.arange(50) % 2})
    assert min(figure.size) >= 300
    assert len(figure.getcolors(maxcolors=10**6)) > 10
