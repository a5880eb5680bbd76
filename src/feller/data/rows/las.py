"""Point clouds of laser scans: LAS and, packed, LAZ."""

import importlib.util
import pathlib

import numpy as np

from feller.data.found import FoundRows
from feller.data.rows.columns import check_finite
from feller.errors import InputError, UsageError

ENDINGS = (".las", ".laz")
COLUMNS = ("x", "y", "z")
GROUND = 2
"""Class of the points that hit the ground, in the standard of the format."""


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
        scan = laspy.read(path)
        values = np.stack([np.asarray(scan[axis], dtype=np.float64) for axis in COLUMNS], axis=1)
        classes, promised = np.asarray(scan.classification), scan.header.point_count
    except Exception as error:  # laspy, numpy and the unpackers raise a dozen kinds on damaged files
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
