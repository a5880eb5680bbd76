"""Density baselines without a network: kernel density on the sphere and wrapped normal mixture on the torus."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.core.rng import Rng
from feller.data.batches import split
from feller.data.modality import Dataset
from feller.data.points.earth import Earth
from feller.data.points.manifold_points import ManifoldPoints
from feller.data.points.torsions import Torsions
from feller.evaluation.comparison import has_enough_held_out, subsample
from feller.spaces import Sphere, as_manifold
from feller.spaces.torus import TWO_PI

CONCENTRATIONS = tuple(50.0 * 2**i for i in range(9))
"""Candidate concentrations from 50 to 12,800, which are kernel widths from 8 to 0.5 degrees. Narrower kernels would fit
repeated coordinates in a file, such as those in catalogues of volcanoes."""
UNIFORM_WEIGHT = 0.02
"""Weight of the uniform component, which bounds the density from below."""
CHUNK = 2**22
"""Number of float64 values per chunk, 32 MiB."""


@dataclass(frozen=True, eq=False)
class KernelDensity:
    """Mixture of a von Mises-Fisher kernel at each data point and a uniform component, on the unit sphere."""

    points: Float64[Tensor, "n 3"]
    concentration: float

    def log_density(self, x: Float[Tensor, "m 3"]) -> Float64[Tensor, " m"]:
        """Return the log density at each unit vector, in nats."""
        return _mix_uniform(_log_sums(x.double(), self.points, (self.concentration,)))[0]


def kernel_density(
    points: Float[Tensor, "n 3"], validation: Float[Tensor, "m 3"], concentrations: tuple[float, ...] = CONCENTRATIONS
) -> KernelDensity:
    """Return the kernel density whose concentration gives the highest validation likelihood.

    Args:
        points: Unit vectors of the kernel centres.
        validation: Unit vectors of the validation set.
        concentrations: Candidate concentrations; the kernel width is about 1 / sqrt(concentration) radians.

    Raises:
        ValueError: If there are no points or no validation points.
    """
    if not len(points) or not len(validation):
        raise ValueError(f"expected points and validation points, got {len(points)} and {len(validation)}")
    points = points.double()
    mean = _mix_uniform(_log_sums(validation.double(), points, concentrations)).mean(1)
    return KernelDensity(points, concentrations[int(mean.argmax())])


def _log_sums(
    x: Float64[Tensor, "m 3"], points: Float64[Tensor, "n 3"], concentrations: tuple[float, ...]
) -> Float64[Tensor, "k m"]:
    # cos - 1 = -|x - y|^2 / 2, which is accurate for close points
    log_sums = []
    for chunk in x.split(max(1, CHUNK // len(points))):
        exponent = -torch.cdist(chunk, points, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
        log_sums.append(torch.stack([(c * exponent).logsumexp(1) + _log_constant(c) for c in concentrations]))
    return torch.cat(log_sums, 1) - math.log(len(points))


def _log_constant(concentration: float) -> float:
    """Return the log density of a kernel at its centre: log c / (2 pi (1 - exp(-2 c)))."""
    return math.log(concentration) - math.log(2 * math.pi) - math.log1p(-math.exp(-2 * concentration))


def _mix_uniform(kernels: Float64[Tensor, "k m"]) -> Float64[Tensor, "k m"]:
    uniform = torch.full_like(kernels, math.log(UNIFORM_WEIGHT / (4 * math.pi)))
    return torch.logaddexp(kernels + math.log1p(-UNIFORM_WEIGHT), uniform)


MIN_SCALE, MAX_SCALE = 0.01, 2.0
"""Bounds of the standard deviations of a component, in radians; three periodic images are enough up to 2 radians."""
MIN_GAIN = 1e-4
"""Gain of an EM step below which EM stops, in nats per example."""


@dataclass(frozen=True, eq=False)
class WrappedMixture:
    """Mixture of wrapped normal distributions with diagonal covariance on the torus, with angles in radians."""

    log_weights: Float64[Tensor, " k"]
    means: Float64[Tensor, "k d"]
    scales: Float64[Tensor, "k d"]
    """Standard deviations of each component, in radians."""

    def log_density(self, x: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        """Return the log density in nats at each row of angles in radians."""
        return torch.cat([self._log_joint_and_moments(xs)[0].logsumexp(1) for xs in x.double().split(self._rows())])

    def em_step(self, x: Float64[Tensor, "n d"]) -> tuple["WrappedMixture", float]:
        """Return the mixture after one EM step, and the mean log density before the step.

        The latent variables are the component of each example and the winding number of each angle.
        """
        total = 0.0
        count = torch.zeros_like(self.log_weights)
        first_moment, second_moment = torch.zeros_like(self.means), torch.zeros_like(self.means)
        for chunk in x.split(self._rows()):
            joint, mean, square = self._log_joint_and_moments(chunk)
            log_density = joint.logsumexp(1, keepdim=True)
            responsibility = (joint - log_density).exp()
            total += log_density.sum().item()
            count += responsibility.sum(0)
            first_moment += (responsibility[:, :, None] * mean).sum(0)
            second_moment += (responsibility[:, :, None] * square).sum(0)
        count = count.clamp_min(1e-10)
        shift = first_moment / count[:, None]
        scales = (second_moment / count[:, None] - shift.square()).clamp_min(MIN_SCALE**2).sqrt().clamp_max(MAX_SCALE)
        means = (self.means + shift).remainder(TWO_PI)
        return WrappedMixture((count / count.sum()).log(), means, scales), total / len(x)

    def _rows(self) -> int:
        return max(1, CHUNK // (8 * self.means.numel()))

    def _log_joint_and_moments(
        self, x: Float64[Tensor, "n d"]
    ) -> tuple[Float64[Tensor, "n k"], Float64[Tensor, "n k d"], Float64[Tensor, "n k d"]]:
        """Return the joint log density per component, and first and second moments of the deviation from its mean.

        The sums include the nearest periodic image and one image on either side, relative to the nearest.
        """
        delta = x[:, None] - self.means
        delta = delta - TWO_PI * torch.round(delta / TWO_PI)
        variance = self.scales.square()
        after = ((-TWO_PI / 2 - delta) * (TWO_PI / variance)).exp()
        before = ((-TWO_PI / 2 + delta) * (TWO_PI / variance)).exp()
        images = 1 + after + before
        log_density = images.log() - delta.square() / (2 * variance) - self.scales.log() - math.log(TWO_PI) / 2
        mean = delta + TWO_PI * (after - before) / images
        square = delta.square() + (2 * TWO_PI * delta * (after - before) + TWO_PI**2 * (after + before)) / images
        return self.log_weights + log_density.sum(2), mean, square


def wrapped_mixture(
    x: Float[Tensor, "n d"], rng: Rng, *, components: int = 50, restarts: int = 3, steps: int = 200
) -> WrappedMixture:
    """Fit a wrapped normal mixture to angles by EM, and return the most likely of several restarts.

    Raises:
        ValueError: If there are no examples.
    """
    if not len(x):
        raise ValueError("expected at least one example, got none")
    x, k = x.double(), min(components, len(x))

    def run_em(restart: int) -> tuple[float, WrappedMixture]:
        rows = torch.randperm(len(x), generator=rng.stream("begin", restart).shared_generator())[:k]
        weights = torch.full((k,), -math.log(k), dtype=torch.float64)
        mixture, previous = WrappedMixture(weights, x[rows], torch.full_like(x[rows], 0.5)), -math.inf
        for _ in range(steps):
            updated, value = mixture.em_step(x)
            if value - previous < MIN_GAIN:
                break
            mixture, previous = updated, value
        return previous, mixture

    return max((run_em(restart) for restart in range(restarts)), key=lambda run: run[0])[1]


MAX_FITTED = 5_000
"""Maximum numbers of training and of held-out examples for the wrapped mixture."""
RESTARTS = 2
Density = Callable[[Float64[Tensor, " n *point"]], Float64[Tensor, " n"]]
"""Function from states to their log density, in nats."""


def manifold_points(dataset: Dataset) -> Float64[Tensor, " n *point"]:
    """Return the states of examples as points of their manifold in float64."""
    return as_manifold(dataset.modality.space()).project(dataset.modality.encode(dataset.values).double())


def baseline_nll(train: Dataset, held_out: Dataset, rng: Rng) -> float | None:
    """Return the mean negative log density of held-out data, in nats, under the density baseline fitted to `train`.

    The density is per unit of manifold volume. Return None if there is no baseline for the state space, or if too few
    examples are held out.
    """
    if not has_enough_held_out(held_out):
        return None
    density = _fit_density(train, rng)
    return None if density is None else -density(manifold_points(subsample(held_out, MAX_FITTED, rng))).mean().item()


def _fit_density(train: Dataset, rng: Rng) -> Density | None:
    """Fit a kernel density on the sphere or a wrapped mixture on the torus; None for other spaces."""
    modality = train.modality
    if modality.view(Torsions) is not None:
        return wrapped_mixture(manifold_points(subsample(train, MAX_FITTED, rng)), rng, restarts=RESTARTS).log_density
    points = modality.view(ManifoldPoints)
    if modality.view(Earth) is not None or (points is not None and points.manifold == Sphere(2)):
        centres, validation = split(train, 0.1, rng)
        if not len(validation):
            return None
        fitted = kernel_density(manifold_points(centres), manifold_points(validation))
        return KernelDensity(manifold_points(train), fitted.concentration).log_density
    return None
