"""Spaces by the names that people give them, and what each makes of a number of columns."""

import math
import pathlib
from collections.abc import Callable

import numpy as np
import torch

from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import RawPoints, error_context
from feller.data.points.columns import coordinate_columns
from feller.data.points.manifold_points import Entries, Quaternions, ShiftedScaled, SpaceChart, Triangle
from feller.data.points.scans_and_meshes import read_mesh
from feller.spaces import SO3, SPD, Mesh, Poincare, Simplex, Sphere

QUATERNION = (("qw", "qx", "qy", "qz"), ("w", "x", "y", "z"), ("q0", "q1", "q2", "q3"))
"""Names of the parts of a quaternion, in our order."""
MESHES = (".obj", ".off")
FLAT, ANGLES = "euclidean", "torus"
"""Spaces with a kind of data of their own."""


def place_of(space: str, raw: RawPoints) -> SpaceChart:
    """Return the space of a name, or of a file with a mesh, for the columns of a file.

    Raises:
        InputError: If it has other numbers of columns.
        UsageError: If there is no such space.
    """
    check_space(space)
    return _SPACES[space](raw) if space in _SPACES else _on_mesh(pathlib.Path(space), raw)


def check_space(space: str) -> None:
    """Refuse a name that is no space, before anything is read; UsageError if there is no such space."""
    if space not in NAMES and not space.lower().endswith(MESHES):
        raise UsageError.unknown_name(
            "space", space, NAMES, alternatives=", or a mesh: a file that ends in .obj or .off"
        )


def _numbered(letter: str, n: int) -> tuple[str, ...]:
    return tuple(f"{letter}{i + 1}" for i in range(n))


def _on_sphere(raw: RawPoints) -> SpaceChart:
    d = raw.values.shape[1]
    if d < 3:
        raise InputError("latitude and longitude, or 3 columns or more of unit vectors", d)
    if len(coordinate_columns(raw.columns)) == 2:
        others = [name for name in raw.columns if name not in coordinate_columns(raw.columns)]
        raise InputError(
            "a place on the sphere is a latitude and a longitude alone", remedy=f"Drop {', '.join(others)}"
        )
    return Sphere(d - 1), Entries((d,)), ("x", "y", "z") if d == 3 else _numbered("x", d)


def _in_ball(raw: RawPoints) -> SpaceChart:
    d = raw.values.shape[1]
    if d < 2:
        raise InputError("2 columns or more of points in the unit ball", d)
    return Poincare(d), Entries((d,)), _numbered("x", d)


def _proportions(raw: RawPoints) -> SpaceChart:
    d = raw.values.shape[1]
    if d < 2:
        raise InputError("2 columns or more of proportions", d)
    return Simplex(d - 1), Entries((d,)), _numbered("p", d)


def _rotations(raw: RawPoints) -> SpaceChart:
    """Take 9 columns as matrices, row by row, and 4 as quaternions: by their names, or w, x, y, z."""
    d, names = raw.values.shape[1], tuple(name.lower() for name in raw.columns)
    if d == 9:
        return SO3(), Entries((3, 3)), tuple(f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3))
    if d != 4:
        raise InputError("9 columns, a matrix row by row, or 4, a quaternion w, x, y, z", d)
    known = next((parts for parts in QUATERNION if set(parts) == set(names)), None)
    if known is None and names:
        raise InputError(
            f"cannot tell which part of a quaternion is which in {', '.join(raw.columns)}",
            remedy="Call them qw, qx, qy, qz",
        )
    w, x, y, z = range(4) if known is None else (names.index(part) for part in known)
    return SO3(), Quaternions((w, x, y, z)), QUATERNION[0]


def _covariances(raw: RawPoints) -> SpaceChart:
    """Take n * n columns as matrices, row by row, and n (n + 1) / 2 as lower triangles, 11, 21, 22, 31, ..."""
    d = raw.values.shape[1]
    whole, half = math.isqrt(d), (math.isqrt(8 * d + 1) - 1) // 2
    is_whole, is_half = whole**2 == d, half * (half + 1) // 2 == d
    if is_whole and is_half:  # 1, 36, 1225: symmetric rows are no accident
        matrices = torch.from_numpy(raw.values).reshape(-1, whole, whole)
        is_whole = torch.allclose(matrices, matrices.mT)
    if is_whole:
        return SPD(whole), Entries((whole, whole)), _numbered("s", d)
    if is_half:
        return SPD(half), Triangle(half), tuple(f"s{i + 1}{j + 1}" for i in range(half) for j in range(i + 1))
    raise InputError("n * n columns, a matrix row by row, or its n (n + 1) / 2 lower entries", d)


def _on_mesh(path: pathlib.Path, raw: RawPoints) -> SpaceChart:
    """Move and scale a surface so that its corners are about the centre, at a distance of one on average."""
    d = raw.values.shape[1]
    if d != 3:
        raise InputError("3 columns, x, y and z of points of the surface", d)
    vertices, faces = read_mesh(path)
    corners = np.array(vertices)
    centre = (corners.min(0) + corners.max(0)) / 2
    scale = float(np.sqrt(np.square(corners - centre).sum(1).mean()))
    if not 0 < scale < np.inf:
        raise InputError(expected="a surface with a size, all its vertices are in one place", file=path)
    moved = tuple((x, y, z) for x, y, z in ((corners - centre) / scale).tolist())
    x, y, z = centre.tolist()
    with error_context(path):
        return Mesh(moved, faces), ShiftedScaled((x, y, z), scale), ("x", "y", "z")


_SPACES: dict[str, Callable[[RawPoints], SpaceChart]] = {
    "sphere": _on_sphere,
    "simplex": _proportions,
    "poincare": _in_ball,
    "spd": _covariances,
    "rotations": _rotations,
}
NAMES = (FLAT, ANGLES, *_SPACES)
"""All that have one."""
