"""A density of points on the sphere without a network: what a model has to beat."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

CONCENTRATIONS = tuple(50.0 * 2**i for i in range(9))
"""From 50 to 12,800: kernels of 8 degrees to half a degree. Narrower ones would not describe the earth, but count how
often the same coordinates stand in a file: on catalogues of volcanoes they win without end."""
UNIFORM = 0.02
"""Share of the uniform law, without which a place far from all others would be impossible."""
CHUNK = 2**22
"""Numbers that are held at once, about: 32 MiB."""


@dataclass(frozen=True, eq=False)
class KernelDensity:
    """A von Mises-Fisher law around each point, and a little of the uniform law, per area of the unit sphere."""

    points: Float64[Tensor, "n 3"]
    concentration: float

    def log_density(self, x: Float[Tensor, "m 3"]) -> Float64[Tensor, " m"]:
        """Return the log density at unit vectors, in nats."""
        return _mixed(_log_sums(x.double(), self.points, (self.concentration,)))[0]


def kernel_density(
    points: Float[Tensor, "n 3"], validation: Float[Tensor, "m 3"], concentrations: tuple[float, ...] = CONCENTRATIONS
) -> KernelDensity:
    """Put a kernel on each point, of the width at which the validation points are likeliest.

    Args:
        points: Unit vectors to put kernels on.
        validation: Others, of the same law, that choose the width.
        concentrations: What to choose from; a kernel is about 1 / sqrt(concentration) radians wide.

    Raises:
        ValueError: If there are no points.
    """
    if not len(points) or not len(validation):
        raise ValueError(f"expected points and validation points, got {len(points)} and {len(validation)}")
    points = points.double()
    mean = _mixed(_log_sums(validation.double(), points, concentrations)).mean(1)
    return KernelDensity(points, concentrations[int(mean.argmax())])


def _log_sums(
    x: Float64[Tensor, "m 3"], points: Float64[Tensor, "n 3"], concentrations: tuple[float, ...]
) -> Float64[Tensor, "k m"]:
    """Return the log density of the kernels alone for each concentration.

    The cosine less one is minus half the squared distance, which keeps its digits where points are close.
    """
    found = []
    for part in x.split(max(1, CHUNK // len(points))):
        drop = -torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
        found.append(torch.stack([(c * drop).logsumexp(1) + _log_constant(c) for c in concentrations]))
    return torch.cat(found, 1) - math.log(len(points))


def _log_constant(concentration: float) -> float:
    """Return the log density of a kernel at its middle: c / (2 pi (1 - exp(-2 c)))."""
    return math.log(concentration) - math.log(2 * math.pi) - math.log1p(-math.exp(-2 * concentration))


def _mixed(kernels: Float64[Tensor, "k m"]) -> Float64[Tensor, "k m"]:
    uniform = torch.full_like(kernels, math.log(UNIFORM / (4 * math.pi)))
    return torch.logaddexp(kernels + math.log1p(-UNIFORM), uniform)
