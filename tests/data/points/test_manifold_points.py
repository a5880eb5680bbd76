"""Points of manifolds: charts of rows, invalid rows, and projection."""

import math
import pathlib

import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Modality
from feller.data.points.manifold_points import Entries, Quaternions, ShiftedScaled, Triangle
from feller.spaces import SO3, SPD, Poincare, Simplex, Sphere
from tests.errors import refuses

F64 = torch.float64
OCTAHEDRON = """v 3 0 0\nv -1 0 0\nv 1 2 0\nv 1 -2 0\nv 1 0 2\nv 1 0 -2
f 1 3 5\nf 3 2 5\nf 2 4 5\nf 4 1 5\nf 3 1 6\nf 2 3 6\nf 4 2 6\nf 1 4 6\n"""


def table(folder: pathlib.Path, rows: torch.Tensor | list, header: str = "") -> str:
    path = folder / "t.csv"
    lines = [",".join(map(repr, row)) for row in torch.as_tensor(rows, dtype=F64).tolist()]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("space", "manifold", "chart"),
    [
        ("sphere", Sphere(2), Entries((3,))),
        ("sphere", Sphere(4), Entries((5,))),
        ("simplex", Simplex(3), Entries((4,))),
        ("poincare", Poincare(2), Entries((2,))),
        ("spd", SPD(2), Entries((2, 2))),
        ("spd", SPD(3), Triangle(3)),
        ("spd", SPD(6), Entries((6, 6))),
        ("spd", SPD(8), Triangle(8)),
        ("rotations", SO3(), Entries((3, 3))),
        ("rotations", SO3(), Quaternions()),
    ],
)
def test_chart_follows_columns_and_round_trips(tmp_path: pathlib.Path, space: str, manifold, chart) -> None:
    points = manifold.sample_base(12, Rng(0).stream("x")).double()
    points = manifold.project(points)
    rows = chart.write(points)
    data = read(table(tmp_path, rows), space=space)
    assert (data.modality.manifold, data.modality.chart) == (manifold, chart)
    assert len(data.modality.columns) == rows.shape[1]
    torch.testing.assert_close(data.values, rows, atol=1e-12, rtol=1e-9)
    state = data.modality.encode(data.values)
    assert state.dtype == torch.float32
    torch.testing.assert_close(state, points.float())
    torch.testing.assert_close(data.modality.decode(state), data.values, atol=1e-5, rtol=1e-5)
    for name in ("a.npz", "a.csv", "folder"):
        data.modality.write(data.values, {}, tmp_path / name)
        torch.testing.assert_close(read_samples(tmp_path / name, data.modality)[0], data.values, atol=1e-13, rtol=1e-12)
    assert from_dict(Modality, to_dict(data.modality)) == data.modality
    if chart == Triangle(3):
        lower = chart.read(torch.tensor([[1.0, 2, 3, 4, 5, 6]]))
        assert lower.tolist() == [[[1, 2, 4], [2, 3, 5], [4, 5, 6]]]


def test_quaternions_equal_rotations(tmp_path: pathlib.Path) -> None:
    """A quarter turn about z; columns are matched by name, and q and -q are one rotation."""
    half = math.sqrt(0.5)
    rotation = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for header, row in (
        ("", [half, 0, 0, half]),
        ("x,y,z,w", [0, 0, half, half]),
        ("QZ,QW,QX,QY", [-half, -half, 0, 0]),
    ):
        data = read(table(tmp_path, [row], header), space="rotations")
        torch.testing.assert_close(data.modality.encode(data.values)[0], rotation, atol=1e-6, rtol=0)
        written = data.modality.decode(data.modality.encode(data.values))[0]
        torch.testing.assert_close(written, torch.tensor(row, dtype=F64).abs(), atol=1e-6, rtol=0)
    with refuses(InputError, remedy="Name the columns qw, qx, qy, qz"):
        read(table(tmp_path, [row], "a,b,c,d"), space="rotations")


REFLECTION = [1, 0, 0, 0, 1, 0, 0, 0, -1]
SINGULAR = [1, 0, 0, 0, 1, 0, 0, 0, 0]


INVALID_ROWS = [
    ("sphere", [0.6, 0.0, 0.7], [0.6, 0.0, 0.8]),
    ("sphere", [0, 0, 0], [0.6, 0.0, 0.8]),
    ("simplex", [0.5, 0.6, 0.2], [0.2, 0.3, 0.5]),
    ("simplex", [0.7, 0.5, -0.2], [0.2, 0.3, 0.5]),
    ("simplex", [50, 30, 20], [0.2, 0.3, 0.5]),
    ("poincare", [0.8, 0.7], [0.1, 0.2]),
    ("spd", [1, 0.5, 0.2, 1], [1, 0, 0, 1]),
    ("spd", [1, 2, 2, 1], [1, 0, 0, 1]),
    ("spd", [1, 2, 1], [1, 0, 1]),
    ("rotations", REFLECTION, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ("rotations", SINGULAR, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ("rotations", [1, 0.1, 0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ("rotations", [1, 0, 0, 0.5], [1, 0, 0, 0]),
]


@pytest.mark.parametrize(("space", "row", "valid"), INVALID_ROWS, ids=range(len(INVALID_ROWS)))
def test_points_off_the_manifold_are_refused(tmp_path: pathlib.Path, space: str, row: list, valid: list) -> None:
    path = table(tmp_path, [valid, row])
    with refuses(InputError, file=path, row=2):
        read(path, space=space)


@pytest.mark.parametrize(
    ("space", "row", "nearest"),
    [
        ("sphere", [3, 0, 4], [0.6, 0, 0.8]),
        ("simplex", [0.5, 0.6, 0.2], [0.4, 0.5, 0.1]),
        ("simplex", [0.7, 0.5, -0.2], [0.6, 0.4, 0.0]),
        ("spd", [1, 0.5, 0.2, 1], [1, 0.35, 0.35, 1]),
        ("rotations", [2, 0, 0, 0, 2, 0, 0, 0, 2], [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        ("rotations", [0, 3, 0, 4], [0, 0.6, 0, 0.8]),
    ],
)
def test_project_moves_to_the_nearest_point(
    tmp_path: pathlib.Path, space: str, row: list[float], nearest: list[float]
) -> None:
    data = read(table(tmp_path, [nearest, row]), space=space, project=True)
    torch.testing.assert_close(data.values, torch.tensor([nearest, nearest], dtype=F64), atol=1e-12, rtol=0)
    distance = torch.tensor(row, dtype=F64).sub(torch.tensor(nearest)).norm()
    assert "1 of 2" in data.notes[-1]
    assert f"{distance:.3g}" in data.notes[-1]


@pytest.mark.parametrize(
    ("space", "row"),
    [
        ("sphere", [0, 0, 0]),
        ("rotations", SINGULAR),
        ("rotations", REFLECTION),
        ("poincare", [1, 1]),
        ("spd", [1, 2, 1]),
    ],
)
def test_points_without_projection_are_refused(tmp_path: pathlib.Path, space: str, row: list[float]) -> None:
    with refuses(InputError, row=1):
        read(table(tmp_path, [row]), space=space, project=True)


def test_rounded_points_are_made_exact(tmp_path: pathlib.Path) -> None:
    points = Sphere(2).sample_base(50, Rng(0).stream("x")).double()
    data = read(table(tmp_path, (points * 1e4).round() / 1e4), space="sphere")
    assert (data.values.norm(dim=1) - 1).abs().max() < 1e-15
    assert not any("moved" in note for note in data.notes)


@pytest.mark.parametrize(
    ("space", "columns"), [("sphere", 1), ("poincare", 1), ("simplex", 1), ("rotations", 5), ("spd", 5)]
)
def test_invalid_numbers_of_columns_are_refused(tmp_path: pathlib.Path, space: str, columns: int) -> None:
    path = table(tmp_path, torch.ones(2, columns))
    with refuses(InputError, file=path, found=str(columns)):
        read(path, space=space)


def test_inapplicable_options_are_refused(tmp_path: pathlib.Path) -> None:
    path = table(tmp_path, [[1.0, 0, 0]])
    with refuses(UsageError, argument="space", found="none"):
        read(path, project=True)
    with refuses(UsageError, argument="space", found="'sphre'"):
        read(path, space="sphre")
    with refuses(UsageError, argument="space"):
        read("example:digits", space="sphere")
    assert read("example:volcano", space="euclidean").values.shape == (744, 2)


def test_mesh_is_scaled_to_unit_size(tmp_path: pathlib.Path) -> None:
    (tmp_path / "o.obj").write_text(OCTAHEDRON)
    rows = torch.tensor([[3.0, 0, 0], [1 + 2 / 3, 2 / 3, 2 / 3], [1, 1, -1]], dtype=F64)
    mesh = str(tmp_path / "o.obj")
    data = read(table(tmp_path, rows, "x,y,z"), space=mesh)
    assert data.modality.chart == ShiftedScaled((1.0, 0.0, 0.0), 2.0)
    assert data.modality.log_scale == pytest.approx(math.log(4))  # areas are four times those of the unit surface
    area = float((-data.modality.manifold.base_log_prob(torch.zeros(1, 3).double())).exp())
    assert area * 4 == pytest.approx(8 * math.sqrt(3) / 4 * 8)  # 8 triangles with sides of sqrt(8)
    torch.testing.assert_close(data.modality.decode(data.modality.encode(data.values)), rows, atol=1e-6, rtol=0)
    with refuses(InputError, row=2):
        read(table(tmp_path, [[3.0, 0, 0], [2.0 + 2 / 3, 5 / 3, 5 / 3]]), space=mesh)
    assert "1 of 1" in read(table(tmp_path, [[8 / 3, 5 / 3, 5 / 3]]), space=mesh, project=True).notes[-1]
    with refuses(InputError, found="2"):
        read(table(tmp_path, [[1.0, 2]]), space=mesh)
    (tmp_path / "hole.obj").write_text(OCTAHEDRON.rpartition("f")[0])
    with refuses(InputError, file=str(tmp_path / "hole.obj"), expected="a closed surface"):
        read(table(tmp_path, rows), space=str(tmp_path / "hole.obj"))
