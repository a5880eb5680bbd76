"""How likely held-out data are without a network: what a model has to beat."""

from collections.abc import Callable

from jaxtyping import Float64
from torch import Tensor

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.points.earth import Earth
from feller.data.points.manifold_points import Geometric
from feller.data.points.rows_torsions import Torsions
from feller.data.split import split
from feller.evaluation.comparison import enough, pick
from feller.evaluation.kernel_density import KernelDensity, kernel_density
from feller.evaluation.wrapped_mixture import wrapped_mixture
from feller.spaces import Sphere, geometry

MAX_FITTED = 5_000
"""Training examples that a mixture is fitted to, at most, and held-out ones that are looked at: it takes long."""
RESTARTS = 2

Density = Callable[[Float64[Tensor, " n *point"]], Float64[Tensor, " n"]]
"""States -> log density, in nats."""


def points_of(dataset: Dataset) -> Float64[Tensor, " n *point"]:
    """Return the states of examples as points of their space, exact in float64."""
    return geometry(dataset.modality.space()).project(dataset.modality.encode(dataset.values).double())


def baseline(train: Dataset, held_out: Dataset, draws: Draws) -> float | None:
    """Return minus the mean log density of held-out data in nats, with respect to the volume of their space.

    None for spaces without a density that comes without a network, and if too few examples are held out.
    """
    if not enough(held_out):
        return None
    density = _density(train, draws)
    return None if density is None else -density(points_of(pick(held_out, MAX_FITTED, draws))).mean().item()


def _density(train: Dataset, draws: Draws) -> Density | None:
    """Fit what suits the space: kernels on the sphere, a mixture on the torus."""
    kind = train.modality
    if isinstance(kind, Torsions):
        return wrapped_mixture(points_of(pick(train, MAX_FITTED, draws)), draws, restarts=RESTARTS).log_density
    if isinstance(kind, Earth) or (isinstance(kind, Geometric) and kind.manifold == Sphere(2)):
        rest, validation = split(train, 0.1, draws)
        if not len(validation):
            return None
        chosen = kernel_density(points_of(rest), points_of(validation))
        return KernelDensity(points_of(train), chosen.concentration).log_density
    return None
