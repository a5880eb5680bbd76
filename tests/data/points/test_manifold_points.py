"""Points of curved spaces: what rows mean, what lies beside the space, and what --project does about it."""

import math
import pathlib

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Modality
from feller.data.points.manifold_points import Entries, ManifoldPoints, Quaternions, ShiftedScaled, Triangle
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
def test_columns_decide_how_a_space_is_written(tmp_path: pathlib.Path, space: str, manifold, chart) -> None:
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


def test_quaternions_are_those_of_rotations(tmp_path: pathlib.Path) -> None:
    """A quarter turn about z takes x to y; columns are known by their names, and q and -q are one rotation."""
    half = math.sqrt(0.5)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for header, row in (
        ("", [half, 0, 0, half]),
        ("x,y,z,w", [0, 0, half, half]),
        ("QZ,QW,QX,QY", [-half, -half, 0, 0]),
    ):
        data = read(table(tmp_path, [row], header), space="rotations")
        torch.testing.assert_close(data.modality.encode(data.values)[0], turn, atol=1e-6, rtol=0)
        written = data.modality.decode(data.modality.encode(data.values))[0]
        torch.testing.assert_close(written, torch.tensor(row, dtype=F64).abs(), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="ambiguous in columns a, b, c, d"):
        read(table(tmp_path, [row], "a,b,c,d"), space="rotations")


def test_triangles_are_lower_ones() -> None:
    matrix = Triangle(3).read(torch.tensor([[1.0, 2, 3, 4, 5, 6]]))[0]
    assert matrix.tolist() == [[1, 2, 4], [2, 3, 5], [4, 5, 6]]


HALF_TURNED = [1, 0, 0, 0, 1, 0, 0, 0, -1]
FLAT = [1, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("space", "row", "said"),
    [
        ("sphere", [0.6, 0.0, 0.7], r"row 2: has the norm 0\.921954, expected 1 \(1 of \d+ rows\); .* with --project"),
        ("sphere", [0, 0, 0], r"row 2: has the norm 0 and no direction, expected 1 .*; correct or remove those rows$"),
        ("simplex", [0.5, 0.6, 0.2], r"expected 1 .* with --project"),
        ("simplex", [0.7, 0.5, -0.2], r"row 2: has the proportion -0\.2, expected 0 to 1"),
        ("simplex", [50, 30, 20], r"divide each row by its sum$"),
        ("poincare", [0.8, 0.7], r"row 2: has the norm 1\.06301, expected at most 0\.99998, inside the unit ball"),
        ("spd", [1, 0.5, 0.2, 1], r"row 2: is not symmetric: .* 0\.28"),
        ("spd", [1, 2, 2, 1], "row 2: is not positive definite: its smallest eigenvalue is -1 "),
        ("spd", [1, 2, 1], "row 2: is not positive definite: its smallest eigenvalue is -1 "),
        ("rotations", HALF_TURNED, r"row 2: is not a rotation: the determinant is -1, expected 1"),
        ("rotations", FLAT, "row 2: is not a rotation: the determinant is 0, expected 1"),
        ("rotations", [1, 0.1, 0, 0, 1, 0, 0, 0, 1], r"row 2: is not a rotation: R\^T R is 0\.142 away"),
        ("rotations", [1, 0, 0, 0.5], r"row 2: has the norm 1\.11803, expected 1"),
    ],
)
def test_what_lies_beside_the_space_is_refused(tmp_path: pathlib.Path, space: str, row: list, said: str) -> None:
    good = {3: [0.6, 0.0, 0.8], 2: [0.1, 0.2], 4: [1, 0, 0, 1], 9: [1, 0, 0, 0, 1, 0, 0, 0, 1]}[len(row)]
    good = {"simplex": [0.2, 0.3, 0.5], "spd": [1, 0, 1] if len(row) == 3 else [1, 0, 0, 1]}.get(space, good)
    good = [1, 0, 0, 0] if space == "rotations" and len(row) == 4 else good
    with pytest.raises(InputError, match=said) as caught:
        read(table(tmp_path, [good, row]), space=space)
    assert "t.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


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
def test_project_moves_to_the_nearest_point_and_counts(
    tmp_path: pathlib.Path, space: str, row: list[float], nearest: list[float]
) -> None:
    data = read(table(tmp_path, [nearest, row]), space=space, project=True)
    torch.testing.assert_close(data.values, torch.tensor([nearest, nearest], dtype=F64), atol=1e-12, rtol=0)
    assert data.notes[-1].startswith("moved 1 of 2 rows to the nearest point of the space, by ")
    far = torch.tensor(row, dtype=F64).sub(torch.tensor(nearest)).norm()
    assert data.notes[-1].endswith(f"{far:.3g} at most")


@pytest.mark.parametrize(
    ("space", "row"),
    [("sphere", [0, 0, 0]), ("rotations", FLAT), ("rotations", HALF_TURNED), ("poincare", [1, 1]), ("spd", [1, 2, 1])],
)
def test_what_no_projection_mends_is_said(tmp_path: pathlib.Path, space: str, row: list[float]) -> None:
    with refuses(InputError, row=1):
        read(table(tmp_path, [row]), space=space, project=True)


def test_rounded_numbers_are_no_error_and_come_out_exact(tmp_path: pathlib.Path) -> None:
    points = Sphere(2).sample_base(50, Rng(0).stream("x")).double()
    data = read(table(tmp_path, (points * 1e4).round() / 1e4), space="sphere")
    assert (data.values.norm(dim=1) - 1).abs().max() < 1e-15
    assert not any("moved" in note for note in data.notes)


@pytest.mark.parametrize(
    ("space", "columns", "said"),
    [
        ("sphere", 1, "expected latitude and longitude, or at least 3 columns"),
        ("poincare", 1, "expected at least 2 columns"),
        ("simplex", 1, "expected at least 2 columns"),
        ("rotations", 5, "expected 9 columns, a matrix row by row, or 4"),
        ("spd", 5, r"expected n \* n columns"),
    ],
)
def test_other_numbers_of_columns_are_refused(tmp_path: pathlib.Path, space: str, columns: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(table(tmp_path, torch.ones(2, columns)), space=space)


def test_flags_that_do_not_apply(tmp_path: pathlib.Path) -> None:
    path = table(tmp_path, [[1.0, 0, 0]])
    with refuses(UsageError, argument="space", found="none"):
        read(path, project=True)
    with refuses(UsageError, argument="space", found="'sphre'"):
        read(path, space="sphre")
    with refuses(UsageError, argument="space"):
        read("example:digits", space="sphere")
    assert read("example:volcano", space="euclidean").values.shape == (744, 2)


def test_a_mesh_is_moved_to_unit_size(tmp_path: pathlib.Path) -> None:
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
    assert "moved 1 of 1" in read(table(tmp_path, [[8 / 3, 5 / 3, 5 / 3]]), space=mesh, project=True).notes[-1]
    with refuses(InputError, found="2"):
        read(table(tmp_path, [[1.0, 2]]), space=mesh)
    (tmp_path / "hole.obj").write_text(OCTAHEDRON.rpartition("f")[0])
    with pytest.raises(InputError, match=r"hole\.obj: .*closed"):
        read(table(tmp_path, rows), space=str(tmp_path / "hole.obj"))


@pytest.mark.parametrize("manifold", [Sphere(2), Simplex(2), Poincare(2), SO3()])
def test_pictures(manifold) -> None:
    points = manifold.sample_base(50, Rng(0).stream("x")).double()
    d = points[0].numel()
    modality = ManifoldPoints(tuple(f"x{i}" for i in range(d)), manifold, Entries(tuple(points.shape[1:])), ("a", "b"))
    shown = modality.show(points.flatten(1), {"label": torch.from_numpy(np.arange(50) % 2)})
    assert min(shown.size) >= 300
    assert len(shown.getcolors(maxcolors=10**6)) > 10
