"""Jacobian of a row's clipped gradient with respect to the row, by probes or per coordinate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.gradient import LossFunction
from feller.core.rng import RandomStream
from feller.privacy.leakage.fisher_information import subsampled_fisher, subsampled_fisher_trace
from feller.privacy.leakage.ghost_products import fast_products
from feller.privacy.leakage.row_gradients import ExampleBuilder, RowGradients, TangentBatch

ROWS = 2**11
"""Whose changes in single coordinates are followed beside each other."""
MAX_JACOBIAN_ENTRIES = 2**27
"""Numbers of a Jacobian that is laid out."""
ClipFn = Callable[[Tensor], Tensor]
"""From lengths of gradients [b] to what these are multiplied with: `hard_clip` or `smooth_clip` at a clip norm."""


@dataclass(frozen=True)
class GradientSensitivity:
    """What each row adds to a sum of clipped gradients, and how that follows the row.

    A probe goes forward over the backward pass, in one random direction of the row: for signs v, E |J v|^2 = Tr(J^T
    J), and the same J v tells the part along the gradient. Only three products of the gradient and its change are
    kept; how a length is clipped follows by the chain rule. Clipping to a length has a slope but where a gradient is
    just so long, which no row meets; a network with kinks, such as of ReLU, jumps in its gradients, of which a slope
    tells nothing. Random numbers that an example draws beside its row are given to the attacker too, which never makes
    a bound too large. Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5; Hutchinson
    1990 for the signs.
    """

    norms: Float[Tensor, " b"]
    """Length of what it adds."""
    frobenius_sq: Float[Tensor, " b"]
    """|J|^2, of the Jacobian of what it adds by its coordinates; estimated, if by probes."""
    radial_sq: Float[Tensor, " b"]
    """|g J|^2, of its part along what it adds; estimated likewise."""

    def fisher_trace(self, rate: float, scale: float) -> Float[Tensor, " b"]:
        """Return what one noisy sum over a Poisson sample tells about each row: see `subsampled_fisher_trace`."""
        return subsampled_fisher_trace(rate, scale, self.norms, self.frobenius_sq, self.radial_sq)


@dataclass(frozen=True)
class DirectionalSensitivity:
    """The same as `GradientSensitivity` with all directions of the row apart.

    Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5.
    """

    norms: Float[Tensor, " b"]
    gram: Float[Tensor, "b d d"]
    """J^T J."""
    radial_jacobian: Float[Tensor, "b d"]
    """g J."""

    def fisher_information(self, rate: float, scale: float) -> Float[Tensor, "b d d"]:
        """Return what one noisy sum over a Poisson sample tells about each row: see `subsampled_fisher`."""
        return subsampled_fisher(rate, scale, self.norms, self.gram, self.radial_jacobian)


def rademacher_directions(
    z: Float[Tensor, " b *d"], rng: RandomStream, coordinate_mask: Bool[Tensor, " *d"] | None = None
) -> Float[Tensor, " b *d"]:
    """Draw a direction for each row, of +1 and -1; 0 outside of a block of coordinates, if one is asked for."""
    drawn = 2 * rng.bernoulli(0.5, z.shape, z.device).to(z.dtype) - 1
    return drawn if coordinate_mask is None else drawn * coordinate_mask


def probe_sensitivity(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Float[Tensor, " b *d"],
    clip_fn: ClipFn,
    vectors: Float[Tensor, "..."],
) -> GradientSensitivity:
    """Return estimates without bias from one direction for each row, or the mean over several.

    One probe costs one or two clipped gradients of a network of linear layers, and three or four of another. Its error
    is about the size of what is estimated: over many steps it averages out.

    Args:
        loss: (network, example) -> [b].
        network: With its weights of the step.
        build: From rows to examples.
        z: Rows.
        clip_fn: How gradients are clipped.
        vectors: From `rademacher_directions`, like z, or several along a first axis.
    """
    several, slopes = vectors if vectors.ndim > z.ndim else vectors[None], RowGradients(loss, network)
    found = [_clipped(fast_products(slopes, TangentBatch.from_rows(build, z, each)), clip_fn) for each in several]
    whole = torch.stack([one.frobenius_sq for one in found]).mean(0)
    along = torch.stack([one.radial_sq for one in found]).mean(0)
    return GradientSensitivity(found[0].norms, whole, along)


def exact_sensitivity(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Float[Tensor, " b *d"],
    clip_fn: ClipFn,
    coordinate_mask: Bool[Tensor, " *d"] | None = None,
) -> GradientSensitivity:
    """Return the exact sizes, by as many probes as there are coordinates, or as a block of them has."""
    slopes = RowGradients(loss, network)
    whole = along = norms = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    for units in _unit_directions(z, coordinate_mask).split(max(1, ROWS // len(z))):
        tangents = TangentBatch.concatenate([TangentBatch.from_rows(build, z, unit.expand_as(z)) for unit in units])
        found = _clipped(fast_products(slopes, tangents), clip_fn)
        each = [part.reshape(len(units), -1) for part in (found.norms, found.frobenius_sq, found.radial_sq)]
        norms, whole, along = each[0][0], whole + each[1].sum(0), along + each[2].sum(0)
    return GradientSensitivity(norms, whole, along)


def directional_sensitivity(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Float[Tensor, " b *d"],
    clip_fn: ClipFn,
    coordinate_mask: Bool[Tensor, " *d"] | None = None,
) -> DirectionalSensitivity:
    """Return all of it for a few rows of few coordinates, of which Jacobians are laid out one after the other.

    Raises:
        UsageError: If a Jacobian is too large for that.
    """
    units, slopes = _unit_directions(z, coordinate_mask), RowGradients(loss, network)
    if len(units) * slopes.size > MAX_JACOBIAN_ENTRIES:
        raise UsageError(
            f"slopes of {slopes.size:,} weights by {len(units):,} coordinates do not fit",
            remedy="Choose fewer coordinates, or probe",
        )
    tangents = [TangentBatch.from_rows(build, z, unit.expand_as(z)) for unit in units]
    parts = [slopes.gram_products(tangents, i) for i in range(len(z))]
    squares, mixed, gram = (torch.stack(part) for part in zip(*parts, strict=True))
    lost = ~squares.isfinite()
    squares, mixed = squares.masked_fill(lost, 0.0), mixed.masked_fill(lost[:, None], 0.0)
    gram = gram.masked_fill(lost[:, None, None], 0.0)
    norms, factor, slope = _factors(squares, clip_fn)
    growth = mixed / _nonzero(norms)[:, None]
    more = 2 * factor * slope * norms + (slope * norms) ** 2
    gram = factor[:, None, None] ** 2 * gram + more[:, None, None] * growth[:, :, None] * growth[:, None, :]
    return DirectionalSensitivity(factor * norms, gram, (factor + slope * norms)[:, None] * growth)


def _clipped(products: Float[Tensor, "3 b"], clip_fn: ClipFn) -> GradientSensitivity:
    """Turn |g|^2, g . dg and |dg|^2 of plain gradients into sizes of clipped ones: d(f g) = f dg + f' (d|g|) g."""
    squares, mixed, changes = products.masked_fill(~products[0].isfinite(), 0.0)
    norms, factor, slope = _factors(squares, clip_fn)
    growth = mixed / _nonzero(norms)
    whole = factor**2 * changes + (2 * factor * slope * norms + (slope * norms) ** 2) * growth**2
    return GradientSensitivity(factor * norms, whole, ((factor + slope * norms) * growth) ** 2)


def _factors(squares: Float[Tensor, " b"], clip_fn: ClipFn) -> tuple[Tensor, Tensor, Tensor]:
    """Return lengths of gradients, what these are multiplied with, and how that changes with them."""
    norms = squares.sqrt().requires_grad_()
    with torch.enable_grad():
        factor = clip_fn(norms)
        (slope,) = torch.autograd.grad(factor.sum(), norms)
    return norms.detach(), factor.detach(), slope


def _nonzero(norms: Tensor) -> Tensor:
    return norms.where(norms > 0, torch.ones_like(norms))


def _unit_directions(z: Float[Tensor, " b *d"], coordinate_mask: Bool[Tensor, " *d"] | None) -> Float[Tensor, " k *d"]:
    """Return the directions of single coordinates."""
    units = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device).reshape(-1, *z.shape[1:])
    return units if coordinate_mask is None else units[coordinate_mask.flatten()]


KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def nonsmooth_layers(network: nn.Module) -> tuple[str, ...]:
    """Return the layers at which gradients jump: bounds of a network with some are about where it is smooth alone.

    Functions that are called without a layer, such as relu, are not seen.
    """
    return tuple(
        f"{name or 'the network'}, a {type(layer).__name__}"
        for name, layer in network.named_modules()
        if isinstance(layer, (*KINKED, *POOLS))
    )
