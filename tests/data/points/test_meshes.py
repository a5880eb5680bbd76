"""Files of triangles."""

import pathlib

import pytest

from feller.core.errors import InputError
from feller.data.points.scans_and_meshes import read_mesh
from feller.spaces import Mesh

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
        ("a.ply", "ply", r"expected a mesh as \.obj or \.off"),
        ("a.obj", "v 0 0\n", r"line 1: .*'0 0'"),
        ("a.obj", "v 0 0 x\n", r"line 1: "),
        ("a.obj", OBJ + "f 1 2\n", r"line 12: .*a face of 2 corners"),
        ("a.obj", OBJ + "f 1 2 a\n", r"line 12: "),
        ("a.obj", OBJ + "f 1 2 9\n", r"names the vertices \(0, 1, 8\) of 4"),
        ("a.obj", "# nothing\n", r"expected a surface, got 0 vertices and 0 triangles"),
        ("a.off", "4 4 6\n", r"expected OFF on its first line"),
        ("a.off", "OFF\n", r"line 1: "),
        ("a.off", "OFF\nfour 4\n", r"line 2: "),
        ("a.off", OFF[:-8], r"expected 4 vertices and 4 faces, got 7 lines; it was cut off"),
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
