"""What a list of triangles must be to bound a body: one closed surface, with an outside."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from feller.core.errors import InputError

FLAT = 1e-10
"""Area of a triangle, relative to its longest side squared, below which it has no plane."""


def check_triangles(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangle across each side [F, 3], and which of its corners lies opposite that side.

    Side k of a triangle is the one opposite its corner k.

    Raises:
        InputError: If the triangles are not one closed, oriented surface; the message names what is wrong and where.
    """
    _check_numbers(vertices, faces)
    ends = np.stack([np.roll(faces, -1, 1), np.roll(faces, -2, 1)], -1).reshape(-1, 2)
    edges, edge, count = np.unique(np.sort(ends, 1), axis=0, return_inverse=True, return_counts=True)
    if (count == 1).any():
        raise InputError(
            f"expected a closed surface, got {(count == 1).sum()} edges with a triangle on one side only, such as"
            f" {_name(edges[count == 1])}; fill the holes"
        )
    if (count > 2).any():
        raise InputError(
            f"expected two triangles at each edge, got {(count > 2).sum()} edges with more, such as"
            f" {_name(edges[count > 2])}; separate the sheets that meet there"
        )
    pairs = np.argsort(edge.reshape(-1), kind="stable").reshape(-1, 2)
    same = (ends[pairs[:, 0]] == ends[pairs[:, 1]]).all(1)
    if same.any():
        raise InputError(
            f"expected triangles that turn the same way, got {same.sum()} edges whose two triangles turn against each"
            f" other, such as {_name(ends[pairs[same, 0]])}; reverse the corners of some"
        )
    partner = np.empty(len(ends), dtype=np.int64)
    partner[pairs] = pairs[:, ::-1]
    across, opposite = partner.reshape(-1, 3) // 3, partner.reshape(-1, 3) % 3
    here = np.repeat(np.arange(len(faces)), 3)
    links = coo_array((np.ones(len(here)), (here, across.reshape(-1))), shape=(len(faces),) * 2)
    parts = connected_components(links, directed=False)[0]
    if parts > 1:
        raise InputError(f"expected one surface, got {parts} that are not connected; keep one of them")
    return across, opposite


def _name(edges: np.ndarray) -> str:
    return f"that between vertices {edges[0][0]} and {edges[0][1]}"


def _check_numbers(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Check each triangle by itself, and that all vertices are used."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(
            f"expected vertices [v, 3] and triangles [f, 3], got {list(vertices.shape)} and {list(faces.shape)}"
        )
    if not np.isfinite(vertices).all():
        raise InputError(f"vertex {np.argwhere(~np.isfinite(vertices))[0][0]} has a coordinate that is not finite")
    wrong = ((faces < 0) | (faces >= len(vertices))).any(1)
    if wrong.any():
        i = wrong.argmax()
        raise InputError(
            f"triangle {i} names the vertices {faces[i].tolist()}, but there are {len(vertices)}, counted from 0"
        )
    corners = vertices[faces]
    sides = np.roll(corners, -1, 1) - corners
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
    flat = area <= FLAT * (sides**2).sum(-1).max(1)
    if flat.any():
        i = flat.argmax()
        raise InputError(
            f"expected triangles with an area, got {flat.sum()} without, such as triangle {i} with the vertices"
            f" {faces[i].tolist()}; remove them"
        )
    idle = np.setdiff1d(np.arange(len(vertices)), faces)
    if len(idle):
        raise InputError(f"{len(idle)} vertices belong to no triangle, such as vertex {idle[0]}; remove them")
