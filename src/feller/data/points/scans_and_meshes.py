"""Reading of laser scans (LAS, LAZ) and triangle meshes (OBJ, OFF)."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from feller.core.errors import InputError, message_of
from feller.core.optional_dependency import require_package
from feller.data.files.decompression import check_expanded_size
from feller.data.loading.raw import RawPoints
from feller.data.points.columns import check_finite

ENDINGS = (".las", ".laz")
COLUMNS = ("x", "y", "z")
GROUND = 2
"""Number of the LAS class of ground points."""
CHUNK, VARIABLE = 1_000_000, 2**32 - 1
"""Number of points per LAZ chunk up to which any file is accepted, and the marker of variable chunk sizes."""


def load_scan(path: pathlib.Path) -> RawPoints:
    """Read the coordinates of a laser scan, in survey units; if points are classified, only ground points are read.

    InputError if the file is damaged or has no points; UsageError if laspy is not installed. Source: ASPRS, "LAS
    specification 1.4 - R15", 2019.
    """
    laspy = require_package("laspy", "reading .las and .laz", "bridges")
    try:
        _check_records(path)
        with laspy.open(path) as file:
            header = file.header
            check_expanded_size(path, header.point_count * header.point_format.size)
            if header.are_points_compressed:
                _check_chunks(path, header.offset_to_point_data, header.point_count)
                _check_size(header.vlrs.get("LasZipVlr"), header.point_count)
            scan = file.read()
        values = np.stack([np.asarray(scan[axis], dtype=np.float64) for axis in COLUMNS], axis=1)
        classes, expected = np.asarray(scan.classification), scan.header.point_count
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # laspy and numpy raise a dozen types on damaged files; lazrs panics
        reason = message_of(error)
        raise InputError(f"cannot be read as a laser scan ({reason}); it is damaged or truncated", file=path) from error
    if len(values) < expected:
        raise InputError(f"contains {len(values):,} of {expected:,} points; it is truncated", file=path)
    if not len(values):
        raise InputError(expected="points, but the scan has none", file=path)
    check_finite(values, str(path), COLUMNS)
    ground = np.flatnonzero(classes == GROUND)
    if not len(ground):
        note = f"using all {len(values):,} points: none is classified as ground (class {GROUND})"
        return RawPoints(values, columns=COLUMNS, notes=(note,))
    note = f"using the {len(ground):,} of {len(values):,} points that are classified as ground (class {GROUND})"
    return RawPoints(values[ground], columns=COLUMNS, notes=(note,), lines=ground + 1)


def _check_records(path: pathlib.Path) -> None:
    """Raise ValueError if the header has more records than the file can hold, since laspy would allocate them."""
    with path.open("rb") as file:
        header = file.read(247).ljust(247, b"\0")
    num_records, num_extended = (int.from_bytes(header[offset : offset + 4], "little") for offset in (100, 243))
    minor, header_size = header[25], int.from_bytes(header[94:96], "little")
    min_size = 54 * num_records + (60 * num_extended if minor >= 4 and header_size >= 247 else 0)
    if min_size > path.stat().st_size:
        raise ValueError(f"{num_records + num_extended:,} variable-length records do not fit into the file")


def _check_chunks(path: pathlib.Path, start: int, points: int) -> None:
    """Raise ValueError on an impossible chunk table: the decompressor would allocate it, and abort the process.

    Point data start with the table's offset; the table starts with a version and the number of chunks.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(start)
        table_start = int.from_bytes(file.read(8), "little", signed=True)
        if table_start == -1:  # written as a stream: the offset is at the end
            file.seek(size - 8)
            table_start = int.from_bytes(file.read(8), "little", signed=True)
        if not start < table_start <= size - 8:
            raise ValueError("the chunk table is outside the file")
        file.seek(table_start + 4)
        count = int.from_bytes(file.read(4), "little")
    if count > min(points, size):
        raise ValueError(f"the chunk table has {count:,} chunks for {points:,} points")


def _check_size(laszip_records: Sequence[Any], points: int) -> None:
    """Raise ValueError if a LAZ file states chunks larger than the scan, because decompression allocates a whole chunk.

    `points` is the number of points of the scan.
    """
    for record in laszip_records:
        size = int.from_bytes(record.record_data[12:16], "little")
        if max(points, CHUNK) < size < VARIABLE:
            raise ValueError(f"chunks have {size:,} points, the scan {points:,}")


Vertices = tuple[tuple[float, float, float], ...]
Faces = tuple[tuple[int, int, int], ...]


def read_mesh(path: pathlib.Path) -> tuple[Vertices, Faces]:
    """Read the vertices and triangles of an .obj or .off file; vertex indices start at 0.

    Faces with more than three corners are split into a triangle fan. InputError if the file cannot be read, has another
    format, or has no surface.
    """
    formats = {".obj": _obj, ".off": _off}
    if path.suffix.lower() not in formats:
        raise InputError(
            expected="a mesh in the format .obj or .off", remedy="Convert the file to one of these formats", file=path
        )
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot be read ({error})", file=path) from error
    lines = ((line_no, line.partition("#")[0].split()) for line_no, line in enumerate(text.splitlines(), 1))
    vertices, faces = formats[path.suffix.lower()](path, [(line_no, fields) for line_no, fields in lines if fields])
    if not vertices or not faces:
        raise InputError("a surface", f"{len(vertices)} vertices and {len(faces)} triangles", file=path)
    for face in faces:
        if not all(0 <= i < len(vertices) for i in face):
            raise InputError(
                f"a triangle has the vertex indices {face}, but there are {len(vertices)} vertices", file=path
            )
    return tuple(vertices), tuple(faces)


Lines = list[tuple[int, list[str]]]
"""Iterator over the (line number, words) of each line."""


@contextlib.contextmanager
def _reading(path: pathlib.Path, line: int, fields: list[str]) -> Iterator[None]:
    try:
        yield
    except (ValueError, IndexError) as error:
        raise InputError(
            "cannot be read", found=f"{' '.join(fields)[:60]!r} ({error})", file=path, place=f"line {line}"
        ) from error


def _point(fields: list[str]) -> tuple[float, float, float]:
    x, y, z = map(float, fields[:3])
    return x, y, z


def _triangles(corners: list[int]) -> list[tuple[int, int, int]]:
    if len(corners) < 3:
        raise ValueError(f"a face of {len(corners)} corners")
    return [(corners[0], b, c) for b, c in pairwise(corners[1:])]


def _obj(path: pathlib.Path, lines: Lines) -> tuple[list[Any], list[Any]]:
    """Parse lines that begin with v or f; vertex indices start at 1, negative ones count from the last."""
    vertices, faces = [], []
    for line, (element, *fields) in lines:
        with _reading(path, line, fields):
            if element == "v":
                vertices.append(_point(fields))
            elif element == "f":
                corners = [int(ref.partition("/")[0]) for ref in fields]  # texture and normal indices follow the slash
                faces += _triangles([i - 1 if i >= 0 else len(vertices) + i for i in corners])
    return vertices, faces


def _off(path: pathlib.Path, lines: Lines) -> tuple[list[Any], list[Any]]:
    """Parse OFF: numbers of vertices and faces, then a line for each; colours after the corners are ignored."""
    if not lines or lines[0][1][0] != "OFF":
        raise InputError(expected="OFF on its first line", file=path)
    (line, fields), *body = [(lines[0][0], lines[0][1][1:]), *lines[1:]] if lines[0][1][1:] else lines[1:] or [(1, [])]
    with _reading(path, line, fields):
        num_vertices, num_faces = int(fields[0]), int(fields[1])
    if len(body) < num_vertices + num_faces:
        raise InputError(
            f"{num_vertices} vertices and {num_faces} faces",
            f"{len(body)} lines",
            "Copy the file again; it is truncated",
            file=path,
        )
    points, triangles = [], []
    for i, (line, fields) in enumerate(body[: num_vertices + num_faces]):
        with _reading(path, line, fields):
            if i < num_vertices:
                points.append(_point(fields))
            else:
                triangles += _triangles([int(field) for field in fields[1 : 1 + int(fields[0])]])
    return points, triangles
