"""Laser scans and files of triangles: places in their units, and what is said about files that are none."""

import pathlib
import sys

import numpy as np
import pytest

from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.points.euclidean_points import Points
from feller.data.points.scans_and_meshes import read_mesh
from feller.spaces import Mesh

PLACES = np.array([[584445.25, 5176257.94, 640.16], [584446.5, 5176260.0, 655.5], [584450.0, 5176259.99, 641.0]])


def write(path: pathlib.Path, classes: list[int], places: np.ndarray = PLACES) -> pathlib.Path:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = [0.01, 0.01, 0.01], [500000.0, 0.0, 100.0]
    scan = laspy.LasData(header)
    scan.x, scan.y, scan.z = places.T
    scan.classification = np.array(classes, dtype=np.uint8)
    scan.write(path)
    return path


@pytest.mark.parametrize("name", ["scan.las", "scan.LAZ"])
def test_ground_is_taken_in_the_units_of_the_survey(tmp_path: pathlib.Path, name: str) -> None:
    if name.endswith("LAZ"):
        pytest.importorskip("lazrs")
    data = read(str(write(tmp_path / name, [2, 5, 2])))
    assert isinstance(data.modality, Points)
    assert data.modality.columns == ("x", "y", "z")
    assert np.abs(data.values.numpy() - PLACES[[0, 2]]).max() < 1e-6
    assert "2 of 3 points that are classified as ground (class 2)" in data.notes[0]


def test_a_scan_without_classes_is_taken_whole(tmp_path: pathlib.Path) -> None:
    data = read(str(write(tmp_path / "scan.las", [1, 1, 1])))
    assert np.abs(data.values.numpy() - PLACES).max() < 1e-6
    assert data.notes[0].startswith("using all 3 points")


def test_damaged_and_empty_scans(tmp_path: pathlib.Path) -> None:
    whole = write(tmp_path / "scan.las", [2, 2, 2]).read_bytes()
    for name, content in {"other.las": b"x,y\n1,2\n", "cut.las": whole[:100]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: cannot be read as a laser scan"):
            read(str(tmp_path / name))
    (tmp_path / "short.las").write_bytes(whole[:-34])  # a whole point
    with pytest.raises(InputError, match=r"short.las: contains 2 of 3 points"):
        read(str(tmp_path / "short.las"))
    write(tmp_path / "empty.las", [], PLACES[:0])
    with pytest.raises(InputError, match="expected points"):
        read(str(tmp_path / "empty.las"))


def test_what_to_install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scan.las").write_bytes(b"LASF")
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(UsageError, match=r"pip install 'feller\[bridges\]'"):
        read(str(tmp_path / "scan.las"))


def test_chunks_larger_than_all_points_are_refused(tmp_path: pathlib.Path) -> None:
    """The unpacker would make room for them: here for 18 GB."""
    pytest.importorskip("lazrs")
    content = bytearray(write(tmp_path / "scan.laz", [2, 5, 2]).read_bytes())
    at = content.index(b"laszip encoded") - 2 + 54 + 12
    assert int.from_bytes(content[at : at + 4], "little") == 50_000
    content[at + 3] = 0x20
    (tmp_path / "scan.laz").write_bytes(content)
    with pytest.raises(InputError, match="chunks have 536,920,912 points, the scan 3"):
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
def test_reads(tmp_path: pathlib.Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_mesh(tmp_path / name) == (CORNERS, FACES)
    assert Mesh(*read_mesh(tmp_path / name)).dimension == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ply", "ply", r"expected a mesh in the format \.obj or \.off"),
        ("a.obj", "v 0 0\n", r"line 1: .*'0 0'"),
        ("a.obj", "v 0 0 x\n", r"line 1: "),
        ("a.obj", OBJ + "f 1 2\n", r"line 12: .*a face of 2 corners"),
        ("a.obj", OBJ + "f 1 2 a\n", r"line 12: "),
        ("a.obj", OBJ + "f 1 2 9\n", r"has the vertex indices \(0, 1, 8\)"),
        ("a.obj", "# nothing\n", "expected a surface; found 0 vertices and 0 triangles"),
        ("a.off", "4 4 6\n", r"expected OFF on its first line"),
        ("a.off", "OFF\n", r"line 1: "),
        ("a.off", "OFF\nfour 4\n", r"line 2: "),
        ("a.off", OFF[:-8], "expected 4 vertices and 4 faces"),
        ("a.off", OFF.replace("3 1 2 3", "x 1 2 3"), r"line 11: .*'x"),
    ],
)
def test_damaged_files_are_named(tmp_path: pathlib.Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_mesh(tmp_path / name)


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_mesh(tmp_path / "none.obj")


def test_faces_of_more_corners_are_triangles(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.off").write_text(OFF.replace("3 1 2 3", "4 0 1 2 3"))
    assert read_mesh(tmp_path / "a.off")[1][2:4] == ((0, 1, 2), (0, 2, 3))
    (tmp_path / "a.obj").write_text(OBJ + "f 1 2 3 4\n")
    assert read_mesh(tmp_path / "a.obj")[1][-2:] == ((0, 1, 2), (0, 2, 3))
