"""Vibrations of a surface: the eigenfunctions of its Laplacian, and a distance made of them.

Source: Lipman, Rustamov and Funkhouser 2010, "Biharmonic distance", ACM Transactions on Graphics 29(3).
"""

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import eigsh

DENSE = 400
"""Vertices up to which all eigenfunctions are computed at once."""


def laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[csc_array, np.ndarray]:
    """Return the matrix of the integral of grad u . grad v, by cotangents, and the area that belongs to each vertex."""
    corners = vertices[faces]
    to, fro = np.roll(corners, -1, 1) - corners, np.roll(corners, -2, 1) - corners
    twice_area = np.linalg.norm(np.cross(to[:, 0], fro[:, 0]), axis=1)
    weight = ((to * fro).sum(-1) / twice_area[:, None]).reshape(-1) / 2
    i, j = np.roll(faces, -1, 1).reshape(-1), np.roll(faces, -2, 1).reshape(-1)
    n = len(vertices)
    entries = np.concatenate([-weight, -weight, weight, weight])
    stiffness = coo_array((entries, (np.concatenate([i, j, i, j]), np.concatenate([j, i, i, j]))), shape=(n, n))
    mass = np.bincount(faces.reshape(-1), np.repeat(twice_area / 6, 3), minlength=n)
    return csc_array(stiffness), mass


def biharmonic(vertices: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Place vertices in a space [V, count] whose Euclidean distance is the biharmonic distance on the surface.

    The coordinates are the smoothest eigenfunctions but the constant, each over its eigenvalue; there are at most one
    less than vertices.
    """
    stiffness, mass = laplacian(vertices, faces)
    count = min(count, len(vertices) - 1)
    if len(vertices) <= DENSE or count > len(vertices) // 2:
        values, functions = eigh(stiffness.toarray(), np.diag(mass))
    else:  # shifted below zero by little, beside the first eigenvalues, as the matrix itself has no inverse
        shift, start = -1e-3 / mass.sum(), np.cos(np.arange(len(vertices)))
        values, functions = eigsh(stiffness, count + 1, M=diags_array(mass, format="csc"), sigma=shift, v0=start)
    order = np.argsort(values)[1 : count + 1]
    return np.asarray(functions)[:, order] / values[order]


def longest_way(i: np.ndarray, j: np.ndarray, lengths: np.ndarray) -> float:
    """Return how far the first vertex is from the farthest, along edges from i to j of these lengths."""
    count = int(max(i.max(), j.max())) + 1
    return dijkstra(coo_array((lengths, (i, j)), shape=(count, count)), directed=True, indices=0).max()
