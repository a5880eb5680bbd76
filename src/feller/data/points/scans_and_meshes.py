"""Point clouds of laser scans: LAS and, packed, LAZ."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from feller.core.errors import InputError, UsageError
from feller.data.files.decompression import check_unpacked
from feller.data.loading.raw import FoundRows
from feller.data.points.columns import check_finite

ENDINGS = (".las", ".laz")
COLUMNS = ("x", "y", "z")
GROUND = 2
"""Class of the points that hit the ground, in the standard of the format."""
CHUNK, VARIABLE = 1_000_000, 2**32 - 1
"""Points of a packed chunk that any file may have, however few it holds; and what says that chunks differ."""


def find_scan(path: pathlib.Path) -> FoundRows:
    """Read the places of a scan, in the units of its survey, mostly metres; only those on the ground, where known.

    Source: ASPRS, "LAS specification 1.4 - R15", 2019.

    Raises:
        InputError: If the file is damaged or holds no point.
        UsageError: If laspy, which reads it, is not installed.
    """
    if importlib.util.find_spec("laspy") is None:
        raise UsageError("reading .las and .laz needs laspy: pip install 'feller[bridges]'")
    import laspy

    try:
        _check_records(path)
        with laspy.open(path) as file:
            header = file.header
            check_unpacked(path, header.point_count * header.point_format.size)
            if header.are_points_compressed:
                _check_chunks(path, header.offset_to_point_data, header.point_count)
                _check_size(header.vlrs.get("LasZipVlr"), header.point_count)
            scan = file.read()
        values = np.stack([np.asarray(scan[axis], dtype=np.float64) for axis in COLUMNS], axis=1)
        classes, promised = np.asarray(scan.classification), scan.header.point_count
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # laspy and numpy raise a dozen kinds on damaged files, and the unpacker panics
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as a laser scan ({reason}); it was damaged or cut off") from error
    if len(values) < promised:
        raise InputError(f"{path}: holds {len(values):,} of {promised:,} points; it was cut off")
    if not len(values):
        raise InputError(f"{path}: expected points, the scan holds none")
    check_finite(values, str(path), COLUMNS)
    ground = np.flatnonzero(classes == GROUND)
    if not len(ground):
        told = f"none of the {len(values):,} points is marked as ground (class {GROUND}), so all were taken"
        return FoundRows(values, columns=COLUMNS, notes=(told,))
    told = f"{len(ground):,} of the {len(values):,} points are marked as ground (class {GROUND}); only these were taken"
    return FoundRows(values[ground], columns=COLUMNS, notes=(told,), lines=ground + 1)


def _check_records(path: pathlib.Path) -> None:
    """Refuse more records beside the points than the file has room for: laspy would make them all, out of nothing.

    Raises:
        ValueError: Then.
    """
    with path.open("rb") as file:
        head = file.read(247).ljust(247, b"\0")
    few, more = (int.from_bytes(head[at : at + 4], "little") for at in (100, 243))
    minor, header = head[25], int.from_bytes(head[94:96], "little")
    promised = 54 * few + (60 * more if minor >= 4 and header >= 247 else 0)
    if promised > path.stat().st_size:
        raise ValueError(f"{few + more:,} records beside the points, for which it has no room")


def _check_chunks(path: pathlib.Path, start: int, points: int) -> None:
    """Refuse a table of chunks that cannot be: the unpacker makes room for it unseen, and ends the process if it fails.

    Points begin with the place of the table, which begins with a version and the number of chunks.

    Raises:
        ValueError: Then.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(start)
        place = int.from_bytes(file.read(8), "little", signed=True)
        if place == -1:  # written as a stream: the place stands at the end
            file.seek(size - 8)
            place = int.from_bytes(file.read(8), "little", signed=True)
        if not start < place <= size - 8:
            raise ValueError("the table of its chunks lies outside the file")
        file.seek(place + 4)
        count = int.from_bytes(file.read(4), "little")
    if count > min(points, size):
        raise ValueError(f"a table of {count:,} chunks for {points:,} points")


def _check_size(packed: Sequence[Any], points: int) -> None:
    """Refuse chunks of many more points than there are: the unpacker makes room for a whole one.

    Raises:
        ValueError: Then.
    """
    for record in packed:
        size = int.from_bytes(record.record_data[12:16], "little")
        if max(points, CHUNK) < size < VARIABLE:
            raise ValueError(f"chunks of {size:,} points, of which there are {points:,}")
