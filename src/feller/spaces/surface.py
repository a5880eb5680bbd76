"""Finding one's place on a surface of triangles, and walking straight on it.

A place is a triangle and three weights of its corners, which add up to one.

Source: Polthier and Schmies 1998, "Straightest geodesics on polyhedral surfaces".
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CELLS = 2**20
"""Pairs of a point and a triangle that are compared at once."""
CROSSINGS = 10_000
"""Edges that one walk may cross."""


@dataclass(frozen=True)
class Surface:
    """Tables of a closed surface of triangles."""

    corners: Float[Tensor, "f 3 3"]
    slopes: Float[Tensor, "f 3 3"]
    """Gradient of each corner's weight."""
    normals: Float[Tensor, "f 3"]
    areas: Float[Tensor, " f"]
    across: Int[Tensor, "f 3"]
    """Triangle behind the side opposite each corner."""
    opposite: Int[Tensor, "f 3"]
    """Which corner of that triangle lies opposite the side."""

    def like(self, x: Tensor) -> "Surface":
        """Return the tables with the precision and on the device of a tensor."""
        tables = (getattr(self, field.name) for field in fields(self))
        return Surface(*(t.to(x) if t.is_floating_point() else t.to(x.device) for t in tables))

    def at(self, face: Int[Tensor, "*b"], weights: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """Return the coordinates of places."""
        return (weights[..., None] * self.corners[face]).sum(-2)

    def locate(self, x: Float[Tensor, "b 3"]) -> tuple[Int[Tensor, " b"], Float[Tensor, "b 3"]]:
        """Return the places nearest to points."""
        rows = max(1, CELLS // len(self.areas))
        face = torch.cat([self._nearest(part) for part in x.detach().split(rows)])
        return face, self._weights(x, face)

    def _nearest(self, x: Tensor) -> Tensor:
        """Return the nearest triangles.

        No triangle is nearer than its centre less its radius: when the next best bound is no better than the best
        distance, no other triangle needs a look.
        """
        centres = self.corners.mean(1)
        radii = (self.corners - centres[:, None]).norm(dim=-1).amax(1)
        bounds = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist") - radii
        count = min(16, len(radii))
        while True:
            bound, face = bounds.topk(count, largest=False)
            away = (self.at(face, self._weights(x[:, None], face)) - x[:, None]).norm(dim=-1)
            best = away.min(1)
            if count == len(radii) or not (bound[:, -1] < best.values).any():
                return face.gather(1, best.indices[:, None])[:, 0]
            count = min(4 * count, len(radii))

    def _weights(self, x: Float[Tensor, "*#b 3"], face: Int[Tensor, "*b"]) -> Float[Tensor, "*b 3"]:
        """Return the weights of the point of each triangle that is nearest: inside, or on one of its sides."""
        corners, eye = self.corners[face], torch.eye(3, dtype=x.dtype, device=x.device)
        inside = (self.slopes[face] * (x[..., None, :] - corners.roll(-1, -2))).sum(-1)
        side, way = corners.roll(-1, -2) - corners, x[..., None, :] - corners
        t = ((way * side).sum(-1) / side.square().sum(-1)).clamp(0, 1)[..., None]
        nearest = (way - t * side).square().sum(-1).argmin(-1)[..., None, None]
        edge = torch.take_along_dim((1 - t) * eye + t * eye.roll(1, -1), nearest, -2).squeeze(-2)
        weights = torch.where((inside >= 0).all(-1, keepdim=True), inside, edge)
        return weights / weights.sum(-1, keepdim=True)

    def walk(
        self, face: Int[Tensor, " b"], weights: Float[Tensor, "b 3"], v: Float[Tensor, "b 3"]
    ) -> tuple[Int[Tensor, " b"], Float[Tensor, "b 3"]]:
        """Go straight on for the time 1, as if each next triangle were folded into the plane of the last.

        At a corner, the walk goes round it, from triangle to triangle, until one lies ahead.

        Raises:
            ValueError: If a walk has no end.
        """
        for _ in range(CROSSINGS):
            rates = (self.slopes[face] * v[:, None]).sum(-1)
            leaving = rates < 0
            times = torch.where(leaving, weights / -rates.masked_fill(~leaving, -1.0), torch.inf)
            t, side = times.min(-1, keepdim=True)
            crossing, t = t < 1, t.clamp(0, 1)
            weights = (weights + t * rates).clamp_min(0)
            if not crossing.any():
                return face, weights / weights.sum(-1, keepdim=True)
            v = (1 - t) * v
            beyond = self._cross(face, weights, v, side)
            weights, v = (torch.where(crossing, new, old) for new, old in zip(beyond[1:], (weights, v), strict=True))
            face = torch.where(crossing[:, 0], beyond[0], face)
        raise ValueError(f"a walk crossed {CROSSINGS:,} edges without an end; its velocity is too large or not finite")

    def _cross(self, face: Tensor, weights: Tensor, v: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same places and directions in the triangles beyond the side opposite a corner, [b, 1]."""
        to, corner = self.across[face].gather(1, side)[:, 0], self.opposite[face].gather(1, side)
        out, on = (self._away(f, k) for f, k in ((face, side), (to, corner)))
        speed = (v * out).sum(-1, keepdim=True)
        ends = torch.cat([weights.gather(1, (side + k) % 3) for k in (2, 1)], 1)
        after = torch.zeros_like(weights).scatter(1, (corner + torch.tensor([1, 2], device=v.device)) % 3, ends)
        return to, after, v - speed * (out + on)

    def _away(self, face: Tensor, corner: Tensor) -> Tensor:
        """Return the direction in the triangle's plane from the side opposite a corner towards the corner, [b, 3]."""
        slope = self.slopes[face, corner[:, 0]]
        return slope / slope.norm(dim=-1, keepdim=True)


def build_surface(vertices: np.ndarray, faces: np.ndarray, across: np.ndarray, opposite: np.ndarray) -> Surface:
    """Compute the tables, in float64."""
    corners = torch.from_numpy(vertices[faces])
    sides = corners.roll(-2, 1) - corners.roll(-1, 1)
    doubled = torch.linalg.cross(sides[:, 2], -sides[:, 1])
    size = doubled.norm(dim=-1, keepdim=True)
    slopes = torch.linalg.cross((doubled / size)[:, None], sides) / size[:, None]
    return Surface(
        corners, slopes, doubled / size, size[:, 0] / 2, torch.from_numpy(across), torch.from_numpy(opposite)
    )
