"""Any closed surface, made of triangles.

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
    """The points of a closed surface of triangles, [b, 3], with the uniform law as source.

    `exp` walks straight on. `distance` is the biharmonic one, which is smooth and quick but no length: `log` is the
    step that brings it to zero at its present rate, so that `exp(x, log(x, y))` is y only roughly. States are plain
    coordinates, so each method first looks for the triangle; where two meet, the same one is found each time.
    """

    dimension = 2
    vertices: tuple[tuple[float, float, float], ...]
    """Coordinates of the corners."""
    faces: tuple[tuple[int, int, int], ...]
    """Numbers of each triangle's vertices, counted from 0, against the clock as seen from outside."""
    eigenfunctions: int = 100
    """How many of them make the distance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._topology  # refuses what is not closed, oriented and connected, or has damaged triangles

    @functools.cached_property
    def _topology(self) -> tuple[np.ndarray, np.ndarray]:
        from feller.spaces.surface import check_triangles  # loads scipy, which takes a third of a second

        return check_triangles(*self._arrays())

    @functools.cached_property
    def _tables(self) -> dict[tuple[torch.dtype, torch.device], tuple[TriangulatedSurface, Tensor]]:
        return {}

    @functools.cached_property
    def _places(self) -> Tensor:
        """Coordinates of each triangle's corners in the space of the distance, [F, 3, k]."""
        from feller.spaces.surface import biharmonic  # loads scipy

        vertices, faces = self._arrays()
        return torch.from_numpy(biharmonic(vertices, faces, self.eigenfunctions)[faces])

    @functools.cached_property
    def _max_distance(self) -> float:
        """A length that no shortest way exceeds: twice the longest from one vertex along edges, and a triangle."""
        from feller.spaces.surface import farthest_distance  # loads scipy

        vertices, faces = self._arrays()
        i, j = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
        sides = np.linalg.norm(vertices[i] - vertices[j], axis=1)
        return 2 * (farthest_distance(i, j, sides) + sides.max())

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.vertices, dtype=np.float64), np.array(self.faces, dtype=np.int64)

    def _at(self, x: Tensor) -> tuple[TriangulatedSurface, Tensor]:
        """Return all tables in the precision and on the device of a tensor; they are made once."""
        kind = x.dtype, x.device
        if kind not in self._tables:
            self._tables[kind] = build_surface(*self._arrays(), *self._topology).like(x), self._places.to(x)
        return self._tables[kind]

    def sample_base(self, n: int, rng: RandomStream, device: torch.device | str = "cpu") -> Tensor:
        """Draw from the uniform law: a triangle by its area, then a point of it."""
        surface, _ = self._at(torch.empty(0, device=device))
        face = categorical(surface.areas, rng.uniform((n,), torch.float64, device))
        u, w = rng.uniform((n, 2), device=device).unbind(1)
        return surface.at(face, torch.stack([1 - u.sqrt(), u.sqrt() * (1 - w), u.sqrt() * w], 1))

    def base_log_prob(self, x: Points) -> Float[Tensor, " b"]:
        return x.new_full((len(x),), -math.log(self._at(x)[0].areas.double().sum().item()))

    def exp(self, x: Points, v: Points) -> Points:
        """Walk straight on, across the edges.

        Raises:
            ValueError: If the velocity is so large that the walk has no end.
        """
        surface, _ = self._at(x)
        face, weights = surface.locate(x)
        return surface.at(*surface.trace_geodesic(face, weights, _remove_normal(surface.normals[face], v)))

    def log(self, x: Points, y: Points) -> Points:
        """Return the steepest way down of the distance to y, so long that it would be 0 at the end.

        The distance is stationary at y itself, where the step is 0, and at points far away, where it is cut to a length
        that no shortest way exceeds.
        """
        surface, places = self._at(x)
        face, weights = surface.locate(x)
        difference = _mean(weights, places[face]) - self._embed(y)
        slope = (surface.weight_gradients[face] * (places[face] @ difference[..., None])).sum(-2)
        square, size = difference.square().sum(-1, keepdim=True), safe_norm(slope)[:, None]
        step_size = torch.minimum(square, self._max_distance * size) / size.square().masked_fill(size == 0, 1.0)
        return -step_size * slope

    def _embed(self, x: Tensor) -> Tensor:
        """Return the coordinates [b, k] in the space of the distance, linear within triangles."""
        surface, places = self._at(x)
        face, weights = surface.locate(x)
        return _mean(weights, places[face])

    def transport(self, x: Points, y: Points, v: Points) -> Points:
        """Turn v by the smallest rotation between the two triangles' planes; exactly parallel on spheres alone."""
        surface, _ = self._at(x)
        here, there = (surface.normals[surface.locate(z)[0]] for z in (x, y))
        return Sphere().transport(here, there, v)

    def project(self, x: Points) -> Points:
        surface, _ = self._at(x)
        return surface.at(*surface.locate(x))

    def to_tangent(self, x: Points, v: Points) -> Points:
        surface, _ = self._at(x)
        return _remove_normal(surface.normals[surface.locate(x)[0]], v)

    def distance(self, x: Points, y: Points) -> Float[Tensor, " b"]:
        """Return the biharmonic distance, which is not the length of `log`."""
        return safe_norm(self._embed(x) - self._embed(y))

    def log_differential(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Carry v to x: the rate of `log` would show the triangles."""
        return self.transport(y, x, v)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    """Return the weighted mean of the values at a triangle's corners."""
    return (weights[..., None] * values).sum(-2)


def _remove_normal(normal: Tensor, v: Tensor) -> Tensor:
    """Return v without its part along a normal."""
    return v - (v * normal).sum(-1, keepdim=True) * normal
