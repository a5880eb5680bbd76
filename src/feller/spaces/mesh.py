"""Closed triangle meshes as manifolds.

Source: Chen and Lipman 2024, "Flow matching on general geometries", arXiv 2302.03660, section 3.2.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import RandomStream, categorical
from feller.spaces.manifold import Manifold
from feller.spaces.safe_math import safe_norm
from feller.spaces.space import Points
from feller.spaces.sphere import Sphere
from feller.spaces.surface import TriangulatedSurface, build_surface


@dataclass(frozen=True)
class Mesh(Manifold):
    """Closed triangle mesh with states [b, 3] and the uniform distribution as source.

    `exp` follows straightest geodesics. `distance` is the biharmonic distance, which is smooth and fast but not a path
    length. `log` is the steepest-descent step that would reduce this distance to zero if its slope were constant, so
    `exp(x, log(x, y))` only approximates y. States are ambient coordinates, so each method first locates the triangle
    of each state; for a point on a shared edge, the choice is deterministic.
    """

    dimension = 2
    vertices: tuple[tuple[float, float, float], ...]
    """Vertex coordinates."""
    faces: tuple[tuple[int, int, int], ...]
    """Vertex indices of each triangle, counterclockwise as seen from outside."""
    eigenfunctions: int = 100
    """Number of Laplacian eigenfunctions that define the distance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._topology  # raises unless the mesh is closed, oriented, connected and without degenerate triangles

    @functools.cached_property
    def _topology(self) -> tuple[np.ndarray, np.ndarray]:
        from feller.spaces.surface import check_triangles  # imports scipy, which takes 0.3 s

        return check_triangles(*self._arrays())

    @functools.cached_property
    def _tables(self) -> dict[tuple[torch.dtype, torch.device], tuple[TriangulatedSurface, Tensor]]:
        return {}

    @functools.cached_property
    def _places(self) -> Tensor:
        """Biharmonic embedding of each triangle's corners, [F, 3, k]."""
        from feller.spaces.surface import biharmonic  # imports scipy

        vertices, faces = self._arrays()
        return torch.from_numpy(biharmonic(vertices, faces, self.eigenfunctions)[faces])

    @functools.cached_property
    def _max_distance(self) -> float:
        """Upper bound on geodesic distances, computed from edge-path distances to one vertex."""
        from feller.spaces.surface import farthest_distance  # imports scipy

        vertices, faces = self._arrays()
        i, j = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
        lengths = np.linalg.norm(vertices[i] - vertices[j], axis=1)
        return 2 * (farthest_distance(i, j, lengths) + lengths.max())

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.vertices, dtype=np.float64), np.array(self.faces, dtype=np.int64)

    def _at(self, x: Tensor) -> tuple[TriangulatedSurface, Tensor]:
        """Return the cached surface and embedding in the dtype and on the device of a tensor."""
        key = x.dtype, x.device
        if key not in self._tables:
            self._tables[key] = build_surface(*self._arrays(), *self._topology).like(x), self._places.to(x)
        return self._tables[key]

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        """Sample triangles in proportion to their areas, then uniform points in them."""
        surface, _ = self._at(torch.empty(0, device=device))
        face = categorical(surface.areas, rng.uniform((n,), torch.float64, device))
        u, w = rng.uniform((n, 2), device=device).unbind(1)
        return surface.at(face, torch.stack([1 - u.sqrt(), u.sqrt() * (1 - w), u.sqrt() * w], 1))

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        return x.new_full((len(x),), -math.log(self._at(x)[0].areas.double().sum().item()))

    def exp(self, x: Points, v: Points) -> Points:
        """Compute the exponential map by following straightest geodesics across edges.

        Raises:
            ValueError: If a velocity is so large that its geodesic crosses too many edges.
        """
        surface, _ = self._at(x)
        face, weights = surface.locate(x)
        return surface.at(*surface.trace_geodesic(face, weights, _remove_normal(surface.normals[face], v)))

    def log(self, x: Points, y: Points) -> Points:
        """Return the steepest-descent step at x that would reduce the distance to y to 0 if its slope were constant.

        The distance is stationary at y, where the step is 0, and at far points, where the step is capped at the upper
        bound on geodesic distances.
        """
        surface, embedding = self._at(x)
        face, weights = surface.locate(x)
        difference = _mean(weights, embedding[face]) - self._embed(y)
        gradient = (surface.weight_gradients[face] * (embedding[face] @ difference[..., None])).sum(-2)
        square_distance, norm = difference.square().sum(-1, keepdim=True), safe_norm(gradient)[:, None]
        max_change = torch.minimum(square_distance, self._max_distance * norm)
        step_size = max_change / norm.square().masked_fill(norm == 0, 1.0)
        return -step_size * gradient

    def _embed(self, x: Tensor) -> Tensor:
        """Return the biharmonic embedding [b, k] of points, linear within triangles."""
        surface, embedding = self._at(x)
        face, weights = surface.locate(x)
        return _mean(weights, embedding[face])

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        """Rotate v by the smallest rotation between the planes of the triangles; an approximation, exact on spheres."""
        surface, _ = self._at(x)
        normal_x, normal_y = (surface.normals[surface.locate(z)[0]] for z in (x, y))
        return Sphere().transport(normal_x, normal_y, v)

    def project(self, x: Points) -> Points:
        surface, _ = self._at(x)
        return surface.at(*surface.locate(x))

    def to_tangent(self, x: Points, v: Points) -> Points:
        surface, _ = self._at(x)
        return _remove_normal(surface.normals[surface.locate(x)[0]], v)

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        """Return the biharmonic distance, which differs from the norm of `log`."""
        return safe_norm(self._embed(x) - self._embed(y))

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return v transported to x, in place of the derivative of `log`, which is discontinuous between triangles."""
        return self.transport(y, x, v)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    return (weights[..., None] * values).sum(-2)


def _remove_normal(normal: Tensor, v: Tensor) -> Tensor:
    return v - (v * normal).sum(-1, keepdim=True) * normal
