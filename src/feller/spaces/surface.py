"""Triangulated surfaces: point location, straightest geodesics and the biharmonic distance.

A location is a triangle and the barycentric weights of its three corners.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import eigh
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import eigsh
from torch import Tensor

from feller.core.errors import InputError

MAX_PAIRS = 2**20
"""Maximum number of point-triangle pairs compared in one chunk."""
MAX_CROSSINGS = 10_000
"""Maximum number of edges that a geodesic may cross."""


@dataclass(frozen=True)
class TriangulatedSurface:
    """Lookup tables of a closed triangulated surface.

    Source: Polthier and Schmies 1998, "Straightest geodesics on polyhedral surfaces".
    """

    corners: Float[Tensor, "f 3 3"]
    weight_gradients: Float[Tensor, "f 3 3"]
    """Gradient of the barycentric weight of each corner of each triangle."""
    normals: Float[Tensor, "f 3"]
    areas: Float[Tensor, " f"]
    across: Int[Tensor, "f 3"]
    """Index of the triangle across the edge opposite each corner."""
    opposite: Int[Tensor, "f 3"]
    """Index of the corner, in the triangle of `across`, that is opposite the shared edge."""

    def like(self, x: Tensor) -> "TriangulatedSurface":
        """Return the tables in the dtype and on the device of a tensor."""
        tables = (getattr(self, field.name) for field in fields(self))
        return TriangulatedSurface(*(t.to(x) if t.is_floating_point() else t.to(x.device) for t in tables))

    def at(self, face: Int[Tensor, "*b"], weights: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """Return the coordinates of points given by triangle and barycentric weights."""
        return (weights[..., None] * self.corners[face]).sum(-2)

    def locate(self, x: Float[Tensor, "b 3"]) -> tuple[Int[Tensor, " b"], Float[Tensor, "b 3"]]:
        """Return the triangle and the barycentric weights of the surface point nearest to each point of x."""
        chunk_size = max(1, MAX_PAIRS // len(self.areas))
        face = torch.cat([self._nearest(chunk) for chunk in x.detach().split(chunk_size)])
        return face, self._weights(x, face)

    def _nearest(self, x: Tensor) -> Tensor:
        """Return the index of the triangle nearest to each point.

        The distance to a triangle is at least that to its centre minus its radius, so the search ends when the next
        bound is no better than the best distance.
        """
        centres = self.corners.mean(1)
        radii = (self.corners - centres[:, None]).norm(dim=-1).amax(1)
        lower_bounds = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist") - radii
        count = min(16, len(radii))
        while True:
            smallest, face = lower_bounds.topk(count, largest=False)
            distances = (self.at(face, self._weights(x[:, None], face)) - x[:, None]).norm(dim=-1)
            closest = distances.min(1)
            if count == len(radii) or not (smallest[:, -1] < closest.values).any():
                return face.gather(1, closest.indices[:, None])[:, 0]
            count = min(4 * count, len(radii))

    def _weights(self, x: Float[Tensor, "*#b 3"], face: Int[Tensor, "*b"]) -> Float[Tensor, "*b 3"]:
        """Return the barycentric weights of the point of each triangle nearest to x, inside or on an edge."""
        corners, eye = self.corners[face], torch.eye(3, dtype=x.dtype, device=x.device)
        plane_weights = (self.weight_gradients[face] * (x[..., None, :] - corners.roll(-1, -2))).sum(-1)
        edges, offset = corners.roll(-1, -2) - corners, x[..., None, :] - corners
        t = ((offset * edges).sum(-1) / edges.square().sum(-1)).clamp(0, 1)[..., None]
        nearest_edge = (offset - t * edges).square().sum(-1).argmin(-1)[..., None, None]
        edge_weights = torch.take_along_dim((1 - t) * eye + t * eye.roll(1, -1), nearest_edge, -2).squeeze(-2)
        weights = torch.where((plane_weights >= 0).all(-1, keepdim=True), plane_weights, edge_weights)
        return weights / weights.sum(-1, keepdim=True)

    def trace_geodesic(
        self, face: Int[Tensor, " b"], weights: Float[Tensor, "b 3"], v: Float[Tensor, "b 3"]
    ) -> tuple[Int[Tensor, " b"], Float[Tensor, "b 3"]]:
        """Return triangle and barycentric weights of the points at time 1 of straightest geodesics.

        Each triangle is unfolded into the plane of the previous one. At a vertex, the geodesic continues in the first
        adjacent triangle that lies ahead.

        Args:
            face: Triangle of each start point.
            weights: Barycentric weights of each start point in its triangle.
            v: Velocity of each geodesic at its start, tangent to the triangle.

        Raises:
            ValueError: If a geodesic crosses more than `MAX_CROSSINGS` edges.
        """
        for _ in range(MAX_CROSSINGS):
            rates = (self.weight_gradients[face] * v[:, None]).sum(-1)
            is_leaving = rates < 0
            times = torch.where(is_leaving, weights / -rates.masked_fill(~is_leaving, -1.0), torch.inf)
            t, side = times.min(-1, keepdim=True)
            is_crossing, t = t < 1, t.clamp(0, 1)
            weights = (weights + t * rates).clamp_min(0)
            if not is_crossing.any():
                return face, weights / weights.sum(-1, keepdim=True)
            v = (1 - t) * v
            crossed = self._cross(face, weights, v, side)
            weights, v = (
                torch.where(is_crossing, new, old) for new, old in zip(crossed[1:], (weights, v), strict=True)
            )
            face = torch.where(is_crossing[:, 0], crossed[0], face)
        raise ValueError(
            f"a geodesic crossed {MAX_CROSSINGS:,} edges without ending; its velocity is too large or not finite"
        )

    def _cross(self, face: Tensor, weights: Tensor, v: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Continue straight lines into the neighbouring triangles, across the edge opposite the corner `side` [b, 1].

        Return the neighbouring triangle, the barycentric weights of the point on the edge, and the direction there.
        """
        next_face, corner = self.across[face].gather(1, side)[:, 0], self.opposite[face].gather(1, side)
        normal, next_normal = (self._edge_normal(f, k) for f, k in ((face, side), (next_face, corner)))
        speed = (v * normal).sum(-1, keepdim=True)
        edge_weights = torch.cat([weights.gather(1, (side + k) % 3) for k in (2, 1)], 1)
        next_weights = torch.zeros_like(weights).scatter(
            1, (corner + torch.tensor([1, 2], device=v.device)) % 3, edge_weights
        )
        return next_face, next_weights, v - speed * (normal + next_normal)

    def _edge_normal(self, face: Tensor, corner: Tensor) -> Tensor:
        """Return the in-plane unit normal of the edge opposite a corner, towards the corner, [b, 3]."""
        gradient = self.weight_gradients[face, corner[:, 0]]
        return gradient / gradient.norm(dim=-1, keepdim=True)


def build_surface(
    vertices: np.ndarray, faces: np.ndarray, across: np.ndarray, opposite: np.ndarray
) -> TriangulatedSurface:
    """Compute the lookup tables of a surface in float64; `across` and `opposite` come from `check_triangles`."""
    corners = torch.from_numpy(vertices[faces])
    edges = corners.roll(-2, 1) - corners.roll(-1, 1)
    area_vectors = torch.linalg.cross(edges[:, 2], -edges[:, 1])
    twice_area = area_vectors.norm(dim=-1, keepdim=True)
    normals = area_vectors / twice_area
    gradients = torch.linalg.cross(normals[:, None], edges) / twice_area[:, None]
    return TriangulatedSurface(
        corners, gradients, normals, twice_area[:, 0] / 2, torch.from_numpy(across), torch.from_numpy(opposite)
    )


DENSE = 400
"""Maximum number of vertices for which eigenfunctions come from a dense instead of a sparse eigendecomposition."""


def laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[csc_array, np.ndarray]:
    """Return the cotangent stiffness matrix [V, V], and the area of each vertex [V] (lumped mass matrix)."""
    corners = vertices[faces]
    to_next, to_previous = np.roll(corners, -1, 1) - corners, np.roll(corners, -2, 1) - corners
    twice_area = np.linalg.norm(np.cross(to_next[:, 0], to_previous[:, 0]), axis=1)
    half_cotangents = ((to_next * to_previous).sum(-1) / twice_area[:, None]).reshape(-1) / 2
    i, j = np.roll(faces, -1, 1).reshape(-1), np.roll(faces, -2, 1).reshape(-1)
    n = len(vertices)
    entries = np.concatenate([-half_cotangents, -half_cotangents, half_cotangents, half_cotangents])
    stiffness = coo_array((entries, (np.concatenate([i, j, i, j]), np.concatenate([j, i, i, j]))), shape=(n, n))
    mass = np.bincount(faces.reshape(-1), np.repeat(twice_area / 6, 3), minlength=n)
    return csc_array(stiffness), mass


def biharmonic(vertices: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Return vertex coordinates [V, count] whose Euclidean distances are the biharmonic distances on the surface.

    Coordinates are the `count` smoothest non-constant Laplacian eigenfunctions, each divided by its eigenvalue. `count`
    is capped at V - 1.
    """
    stiffness, mass = laplacian(vertices, faces)
    count = min(count, len(vertices) - 1)
    if len(vertices) <= DENSE or count > len(vertices) // 2:
        eigenvalues, eigenfunctions = eigh(stiffness.toarray(), np.diag(mass))
    else:  # shift slightly below zero, because the matrix itself is singular
        shift, v0 = -1e-3 / mass.sum(), np.cos(np.arange(len(vertices)))
        eigenvalues, eigenfunctions = eigsh(stiffness, count + 1, M=diags_array(mass, format="csc"), sigma=shift, v0=v0)
    order = np.argsort(eigenvalues)[1 : count + 1]
    return np.asarray(eigenfunctions)[:, order] / eigenvalues[order]


def farthest_distance(i: np.ndarray, j: np.ndarray, lengths: np.ndarray) -> float:
    """Return the largest shortest-path distance from vertex 0 along edges i -> j of the given lengths."""
    num_vertices = int(max(i.max(), j.max())) + 1
    return dijkstra(coo_array((lengths, (i, j)), shape=(num_vertices, num_vertices)), directed=True, indices=0).max()


MIN_RELATIVE_AREA = 1e-10
"""Area, relative to the squared longest side, below which a triangle counts as degenerate."""


def check_triangles(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangle across each edge, and which corner of that triangle is opposite the edge, both [F, 3].

    Edge k of a triangle is opposite its corner k.

    Raises:
        InputError: If the triangles do not form one closed, oriented and connected surface.
    """
    _check_numbers(vertices, faces)
    half_edges = np.stack([np.roll(faces, -1, 1), np.roll(faces, -2, 1)], -1).reshape(-1, 2)
    edges, edge_index, num_faces = np.unique(np.sort(half_edges, 1), axis=0, return_inverse=True, return_counts=True)
    if (num_faces == 1).any():
        raise InputError(
            "a closed surface",
            f"{(num_faces == 1).sum()} boundary edges, such as {_name(edges[num_faces == 1])}",
            "Fill the holes",
        )
    if (num_faces > 2).any():
        raise InputError(
            "two triangles per edge",
            f"{(num_faces > 2).sum()} edges with more than two, such as {_name(edges[num_faces > 2])}",
            "Separate the sheets that meet at these edges",
        )
    pairs = np.argsort(edge_index.reshape(-1), kind="stable").reshape(-1, 2)
    is_flipped = (half_edges[pairs[:, 0]] == half_edges[pairs[:, 1]]).all(1)
    if is_flipped.any():
        example = _name(half_edges[pairs[is_flipped, 0]])
        raise InputError(
            "consistently oriented triangles",
            f"{is_flipped.sum()} edges between triangles of opposite orientation, such as {example}",
            "Reverse the vertex order of one triangle at each edge",
        )
    twin = np.empty(len(half_edges), dtype=np.int64)
    twin[pairs] = pairs[:, ::-1]
    across, opposite = twin.reshape(-1, 3) // 3, twin.reshape(-1, 3) % 3
    face_index = np.repeat(np.arange(len(faces)), 3)
    adjacency = coo_array((np.ones(len(face_index)), (face_index, across.reshape(-1))), shape=(len(faces),) * 2)
    num_components = connected_components(adjacency, directed=False)[0]
    if num_components > 1:
        raise InputError("one connected surface", f"{num_components} components", "Keep one component")
    return across, opposite


def _name(edges: np.ndarray) -> str:
    return f"the edge between vertices {edges[0][0]} and {edges[0][1]}"


def _check_numbers(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Check shapes, coordinates and each triangle, and that all vertices are used."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError("vertices [v, 3] and triangles [f, 3]", f"{list(vertices.shape)} and {list(faces.shape)}")
    if not np.isfinite(vertices).all():
        raise InputError(f"vertex {np.argwhere(~np.isfinite(vertices))[0][0]} has a non-finite coordinate")
    is_invalid = ((faces < 0) | (faces >= len(vertices))).any(1)
    if is_invalid.any():
        i = is_invalid.argmax()
        raise InputError(
            f"triangle {i} refers to vertices {faces[i].tolist()}, but valid indices are 0 to {len(vertices) - 1}"
        )
    corners = vertices[faces]
    edges = np.roll(corners, -1, 1) - corners
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    is_degenerate = areas <= MIN_RELATIVE_AREA * (edges**2).sum(-1).max(1)
    if is_degenerate.any():
        i = is_degenerate.argmax()
        raise InputError(
            "triangles of positive area",
            f"{is_degenerate.sum()} degenerate triangles, such as triangle {i} with vertices {faces[i].tolist()}",
            "Remove them",
        )
    unused = np.setdiff1d(np.arange(len(vertices)), faces)
    if len(unused):
        raise InputError(
            f"{len(unused)} vertices belong to no triangle, such as vertex {unused[0]}", remedy="Remove them"
        )
