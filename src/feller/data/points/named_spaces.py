"""Lookup of a manifold by the name that a user gives, with a chart from the columns of a table to its points."""

import math
import pathlib
from collections.abc import Callable

import numpy as np
import torch

from feller.core.errors import InputError, UsageError, error_context
from feller.data.loading.raw import RawPoints
from feller.data.points.columns import coordinate_columns
from feller.data.points.manifold_points import Entries, Quaternions, ShiftedScaled, SpaceChart, Triangle
from feller.data.points.scans_and_meshes import read_mesh
from feller.spaces import SO3, SPD, Mesh, Poincare, Simplex, Sphere

QUATERNION = (("qw", "qx", "qy", "qz"), ("w", "x", "y", "z"), ("q0", "q1", "q2", "q3"))
"""Column names of the components of a quaternion, scalar part first."""
MESHES = (".obj", ".off")
FLAT, ANGLES = "euclidean", "torus"
"""Names of the spaces that have modalities of their own."""


def place_of(space: str, raw: RawPoints) -> SpaceChart:
    """Return a manifold, the chart from rows of `raw` to its points, and default names of the columns.

    Args:
        space: Name of the manifold, or path of a mesh file whose surface is the manifold.
        raw: Numeric rows; the number of their columns determines the dimension of the manifold.

    Raises:
        InputError: If the number of columns does not fit the space.
        UsageError: If there is no space of this name.
    """
    check_space(space)
    return _SPACES[space](raw) if space in _SPACES else _on_mesh(pathlib.Path(space), raw)


def check_space(space: str) -> None:
    """Validate a space name before reading data; UsageError if it is neither the name of a space nor a mesh file."""
    if space not in NAMES and not space.lower().endswith(MESHES):
        raise UsageError.unknown_name(
            "space", space, NAMES, alternatives=", or a mesh: a file that ends in .obj or .off"
        )


def _numbered(prefix: str, n: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i + 1}" for i in range(n))


def _on_sphere(raw: RawPoints) -> SpaceChart:
    d = raw.values.shape[1]
    if d < 3:
        raise InputError("latitude and longitude, or at least 3 columns of unit vectors", d)
    if len(coordinate_columns(raw.columns)) == 2:
        others = [name for name in raw.columns if name not in coordinate_columns(raw.columns)]
        raise InputError(
            "points on the sphere have only the columns latitude and longitude", remedy=f"Remove {', '.join(others)}"
        )
    return Sphere(d - 1), Entries((d,)), ("x", "y", "z") if d == 3 else _numbered("x", d)


def _in_ball(raw: RawPoints) -> SpaceChart:
    d = raw.values.shape[1]
    if d < 2:
        raise InputError("at least 2 columns of points in the unit ball", d)
    return Poincare(d), Entries((d,)), _numbered("x", d)


def _proportions(raw: RawPoints) -> SpaceChart:
    d = raw.values.shape[1]
    if d < 2:
        raise InputError("at least 2 columns of proportions", d)
    return Simplex(d - 1), Entries((d,)), _numbered("p", d)


def _rotations(raw: RawPoints) -> SpaceChart:
    """Return the chart of rotations: 9 columns are row-major matrices, 4 are quaternions, by name or w, x, y, z."""
    d, names = raw.values.shape[1], tuple(name.lower() for name in raw.columns)
    if d == 9:
        return SO3(), Entries((3, 3)), tuple(f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3))
    if d != 4:
        raise InputError("9 columns, a matrix row by row, or 4 columns, a quaternion w, x, y, z", d)
    components = next((candidate for candidate in QUATERNION if set(candidate) == set(names)), None)
    if components is None and names:
        raise InputError(
            f"the quaternion components are ambiguous in columns {', '.join(raw.columns)}",
            remedy="Name the columns qw, qx, qy, qz",
        )
    w, x, y, z = range(4) if components is None else (names.index(component) for component in components)
    return SO3(), Quaternions((w, x, y, z)), QUATERNION[0]


def _covariances(raw: RawPoints) -> SpaceChart:
    """Return the chart of SPD matrices: n * n columns, row-major, or n (n + 1) / 2, the lower triangle."""
    d = raw.values.shape[1]
    n, k = math.isqrt(d), (math.isqrt(8 * d + 1) - 1) // 2
    is_full, is_triangle = n**2 == d, k * (k + 1) // 2 == d
    if is_full and is_triangle:  # 1, 36, 1225: both fit; symmetric rows mean full matrices
        matrices = torch.from_numpy(raw.values).reshape(-1, n, n)
        is_full = torch.allclose(matrices, matrices.mT)
    if is_full:
        return SPD(n), Entries((n, n)), _numbered("s", d)
    if is_triangle:
        return SPD(k), Triangle(k), tuple(f"s{i + 1}{j + 1}" for i in range(k) for j in range(i + 1))
    raise InputError("n * n columns, a matrix row by row, or n (n + 1) / 2 columns, its lower triangle", d)


def _on_mesh(path: pathlib.Path, raw: RawPoints) -> SpaceChart:
    """Return a mesh shifted to the origin and scaled to a root-mean-square vertex radius of 1."""
    d = raw.values.shape[1]
    if d != 3:
        raise InputError("3 columns: x, y and z of points on the surface", d)
    vertices, faces = read_mesh(path)
    points = np.array(vertices)
    centre = (points.min(0) + points.max(0)) / 2
    scale = float(np.sqrt(np.square(points - centre).sum(1).mean()))
    if not 0 < scale < np.inf:
        raise InputError(expected="a surface of positive size, but all vertices coincide", file=path)
    normalized = tuple((x, y, z) for x, y, z in ((points - centre) / scale).tolist())
    x, y, z = centre.tolist()
    with error_context(path):
        return Mesh(normalized, faces), ShiftedScaled((x, y, z), scale), ("x", "y", "z")


_SPACES: dict[str, Callable[[RawPoints], SpaceChart]] = {
    "sphere": _on_sphere,
    "simplex": _proportions,
    "poincare": _in_ball,
    "spd": _covariances,
    "rotations": _rotations,
}
NAMES = (FLAT, ANGLES, *_SPACES)
