"""Laser scans and mesh files."""

import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from feller.data.loading.dataset_reader import read
from feller.data.points.euclidean_points import Points
from feller.data.points.scans_and_meshes import read_mesh
from feller.spaces import Mesh
from tests.errors import refuses

POINTS = np.array([[584445.25, 5176257.94, 640.16], [584446.5, 5176260.0, 655.5], [584450.0, 5176259.99, 641.0]])


def write_scan(path: pathlib.Path, classes: list[int], points: np.ndarray = POINTS) -> pathlib.Path:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = [0.01, 0.01, 0.01], [500000.0, 0.0, 100.0]
    scan = laspy.LasData(header)
    scan.x, scan.y, scan.z = points.T
    scan.classification = np.array(classes, dtype=np.uint8)
    scan.write(path)
    return path


@pytest.mark.parametrize("name", ["scan.las", "scan.LAZ"])
def test_ground_points_in_survey_units(tmp_path: pathlib.Path, name: str) -> None:
    if name.endswith("LAZ"):
        pytest.importorskip("lazrs")
    data = read(str(write_scan(tmp_path / name, [2, 5, 2])))
    assert isinstance(data.modality, Points)
    assert data.modality.columns == ("x", "y", "z")
    assert np.abs(data.values.numpy() - POINTS[[0, 2]]).max() < 1e-6
    assert "2 of 3" in data.notes[0]


def test_scan_without_classes_is_read_whole(tmp_path: pathlib.Path) -> None:
    data = read(str(write_scan(tmp_path / "scan.las", [1, 1, 1])))
    assert np.abs(data.values.numpy() - POINTS).max() < 1e-6


def test_damaged_scans_are_refused(tmp_path: pathlib.Path) -> None:
    whole = write_scan(tmp_path / "scan.las", [2, 2, 2]).read_bytes()
    for name, content in {"other.las": b"x,y\n1,2\n", "cut.las": whole[:100], "short.las": whole[:-34]}.items():
        (tmp_path / name).write_bytes(content)
    write_scan(tmp_path / "empty.las", [], POINTS[:0])
    for name in ("other.las", "cut.las", "short.las", "empty.las"):
        with refuses(InputError, file=str(tmp_path / name)):
            read(str(tmp_path / name))


def test_oversized_chunks_are_refused(tmp_path: pathlib.Path) -> None:
    """The decompressor would allocate 18 GB for this header."""
    pytest.importorskip("lazrs")
    content = bytearray(write_scan(tmp_path / "scan.laz", [2, 5, 2]).read_bytes())
    at = content.index(b"laszip encoded") - 2 + 54 + 12
    assert int.from_bytes(content[at : at + 4], "little") == 50_000
    content[at + 3] = 0x20
    (tmp_path / "scan.laz").write_bytes(content)
    with refuses(InputError, file=str(tmp_path / "scan.laz")):
        read(str(tmp_path / "scan.laz"))


CORNERS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
FACES = ((0, 2, 1), (0, 1, 3), (1, 2, 3), (2, 0, 3))
OBJ = """# a tetrahedron
mtllib some.mtl
v 0 0 0
v 1 0 0 1.0
v 0 1e0 0   # with a comment
v 0 0 1
vn 0 0 1
f 1 3 2
f 1/1 2/1/1 4//1
f -3 -2 -1
f 3 1 4
"""
OFF = """OFF
# numbers of vertices, faces, edges
4 4 6
0 0 0
1 0 0
0 1 0

0 0 1
3 0 2 1
3 0 1 3 255 0 0
3 1 2 3
3 2 0 3
"""


@pytest.mark.parametrize(
    ("name", "text"), [("a.obj", OBJ), ("a.OFF", OFF), ("a.off", "OFF 4 4 6\n" + OFF.partition("6\n")[2])]
)
def test_reads_meshes(tmp_path: pathlib.Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_mesh(tmp_path / name) == (CORNERS, FACES)
    assert Mesh(*read_mesh(tmp_path / name)).dimension == 2


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.ply", "ply", None),
        ("a.obj", None, None),
        ("a.obj", "v 0 0\n", "line 1"),
        ("a.obj", "v 0 0 x\n", "line 1"),
        ("a.obj", OBJ + "f 1 2\n", "line 12"),
        ("a.obj", OBJ + "f 1 2 a\n", "line 12"),
        ("a.obj", OBJ + "f 1 2 9\n", None),
        ("a.obj", "# nothing\n", None),
        ("a.off", "4 4 6\n", None),
        ("a.off", "OFF\n", "line 1"),
        ("a.off", "OFF\nfour 4\n", "line 2"),
        ("a.off", OFF[:-8], None),
        ("a.off", OFF.replace("3 1 2 3", "x 1 2 3"), "line 11"),
    ],
    ids=range(13),
)
def test_damaged_meshes_are_refused(tmp_path: pathlib.Path, name: str, text: str | None, place: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with refuses(InputError, file=str(tmp_path / name), place=place):
        read_mesh(tmp_path / name)


def test_polygons_become_triangles(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.off").write_text(OFF.replace("3 1 2 3", "4 0 1 2 3"))
    assert read_mesh(tmp_path / "a.off")[1][2:4] == ((0, 1, 2), (0, 2, 3))
    (tmp_path / "a.obj").write_text(OBJ + "f 1 2 3 4\n")
    assert read_mesh(tmp_path / "a.obj")[1][-2:] == ((0, 1, 2), (0, 2, 3))
