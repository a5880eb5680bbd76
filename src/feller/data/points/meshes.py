"""Surfaces of triangles from OBJ and OFF files."""

import pathlib
from collections.abc import Iterator

from feller.core.errors import InputError

Vertices = tuple[tuple[float, float, float], ...]
Faces = tuple[tuple[int, int, int], ...]


def read_mesh(path: pathlib.Path) -> tuple[Vertices, Faces]:
    """Read the vertices and triangles of a file that ends in .obj or .off; vertices are counted from 0.

    Raises:
        InputError: If the file cannot be read, is no such file, or has faces that are no triangles.
    """
    formats = {".obj": _obj, ".off": _off}
    if path.suffix.lower() not in formats:
        raise InputError(f"{path}: expected a mesh as .obj or .off; convert it to one of these")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    vertices, faces = formats[path.suffix.lower()](path, list(_lines(text)))
    if not vertices or not faces:
        raise InputError(f"{path}: expected a surface, got {len(vertices)} vertices and {len(faces)} triangles")
    for face in faces:
        if not all(0 <= i < len(vertices) for i in face):
            raise InputError(f"{path}: a triangle names the vertices {face} of {len(vertices)}, counted from 0")
    return vertices, faces


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of each line that has some besides comments."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield number, words


def _point(path: pathlib.Path, number: int, words: list[str]) -> tuple[float, float, float]:
    try:
        x, y, z = map(float, words[:3])
    except ValueError:
        raise InputError(f"{path}, line {number}: expected three coordinates, got {' '.join(words)!r}") from None
    return x, y, z


def _triangle(path: pathlib.Path, number: int, words: list[str]) -> tuple[int, int, int]:
    """Read whole numbers; what follows a slash is a texture or a normal."""
    if len(words) != 3:
        raise InputError(
            f"{path}, line {number}: expected a triangle, got a face with {len(words)} corners; triangulate the mesh"
        )
    try:
        a, b, c = (int(word.partition("/")[0]) for word in words)
    except ValueError:
        raise InputError(f"{path}, line {number}: expected three vertices, got {' '.join(words)!r}") from None
    return a, b, c


def _obj(path: pathlib.Path, lines: list[tuple[int, list[str]]]) -> tuple[Vertices, Faces]:
    """Read lines that begin with v and f; vertices are counted from 1, or back from the last when negative."""
    vertices, faces = [], []
    for number, (kind, *words) in lines:
        if kind == "v":
            vertices.append(_point(path, number, words))
        elif kind == "f":
            a, b, c = (i - 1 if i >= 0 else len(vertices) + i for i in _triangle(path, number, words))
            faces.append((a, b, c))
    return tuple(vertices), tuple(faces)


def _off(path: pathlib.Path, lines: list[tuple[int, list[str]]]) -> tuple[Vertices, Faces]:
    """Read OFF, the numbers of vertices and faces, then a line for each; colours may follow a face's corners."""
    if not lines or lines[0][1][0] != "OFF":
        raise InputError(f"{path}: expected OFF on its first line")
    head, *rest = [(lines[0][0], lines[0][1][1:]), *lines[1:]] if len(lines[0][1]) > 1 else lines[1:] or [(1, [])]
    try:
        count, faces = int(head[1][0]), int(head[1][1])
    except (IndexError, ValueError):
        raise InputError(f"{path}, line {head[0]}: expected the numbers of vertices and faces") from None
    if len(rest) < count + faces:
        raise InputError(f"{path}: expected {count} vertices and {faces} faces, got {len(rest)} lines; it was cut off")
    points = tuple(_point(path, number, words) for number, words in rest[:count])
    corners = [(number, words[1 : 1 + _corners(path, number, words)]) for number, words in rest[count : count + faces]]
    return points, tuple(_triangle(path, number, words) for number, words in corners)


def _corners(path: pathlib.Path, number: int, words: list[str]) -> int:
    try:
        return int(words[0])
    except ValueError:
        raise InputError(f"{path}, line {number}: expected the number of corners, got {words[0]!r}") from None
