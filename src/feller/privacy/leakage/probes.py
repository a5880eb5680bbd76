"""Jacobian of a row's clipped gradient with respect to the row, by probes or per coordinate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.gradient import LossFunction
from feller.core.rng import RandomStream
from feller.privacy.leakage.fisher_information import subsampled, subsampled_trace
from feller.privacy.leakage.ghost_products import quickly
from feller.privacy.leakage.row_gradients import Build, RowSlopes, Way

ROWS = 2**11
"""Whose changes in single coordinates are followed beside each other."""
MOST = 2**27
"""Numbers of a Jacobian that is laid out."""
Cut = Callable[[Tensor], Tensor]
"""From lengths of gradients [b] to what these are multiplied with: `hard_clip` or `smooth_clip` at a clip norm."""


@dataclass(frozen=True)
class Pull:
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
    whole: Float[Tensor, " b"]
    """|J|^2, of the Jacobian of what it adds by its coordinates; estimated, if by probes."""
    along: Float[Tensor, " b"]
    """|g J|^2, of its part along what it adds; estimated likewise."""

    def trace(self, rate: float, scale: float) -> Float[Tensor, " b"]:
        """Return what one noisy sum over a Poisson sample tells about each row: see `subsampled_trace`."""
        return subsampled_trace(rate, scale, self.norms, self.whole, self.along)


@dataclass(frozen=True)
class Directions:
    """The same as `Pull` with all directions of the row apart.

    Source: Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5.
    """

    norms: Float[Tensor, " b"]
    gram: Float[Tensor, "b d d"]
    """J^T J."""
    pulled: Float[Tensor, "b d"]
    """g J."""

    def information(self, rate: float, scale: float) -> Float[Tensor, "b d d"]:
        """Return what one noisy sum over a Poisson sample tells about each row: see `subsampled`."""
        return subsampled(rate, scale, self.norms, self.gram, self.pulled)


def signs(
    z: Float[Tensor, " b *d"], draw: RandomStream, which: Bool[Tensor, " *d"] | None = None
) -> Float[Tensor, " b *d"]:
    """Draw a direction for each row, of +1 and -1; 0 outside of a block of coordinates, if one is asked for."""
    drawn = 2 * draw.bernoulli(0.5, z.shape, z.device).to(z.dtype) - 1
    return drawn if which is None else drawn * which


def probed(
    loss: LossFunction,
    network: nn.Module,
    build: Build,
    z: Float[Tensor, " b *d"],
    cut: Cut,
    vectors: Float[Tensor, "..."],
) -> Pull:
    """Return estimates without bias from one direction for each row, or the mean over several.

    One probe costs one or two clipped gradients of a network of linear layers, and three or four of another. Its error
    is about the size of what is estimated: over many steps it averages out.

    Args:
        loss: (network, example) -> [b].
        network: With its weights of the step.
        build: From rows to examples.
        z: Rows.
        cut: How gradients are clipped.
        vectors: From `signs`, like z, or several along a first axis.
    """
    several, slopes = vectors if vectors.ndim > z.ndim else vectors[None], RowSlopes(loss, network)
    found = [_clipped(quickly(slopes, Way.of(build, z, each)), cut) for each in several]
    whole, along = (torch.stack([getattr(one, name) for one in found]).mean(0) for name in ("whole", "along"))
    return Pull(found[0].norms, whole, along)


def coordinate_by_coordinate(
    loss: LossFunction,
    network: nn.Module,
    build: Build,
    z: Float[Tensor, " b *d"],
    cut: Cut,
    which: Bool[Tensor, " *d"] | None = None,
) -> Pull:
    """Return the exact sizes, by as many probes as there are coordinates, or as a block of them has."""
    slopes = RowSlopes(loss, network)
    whole = along = norms = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    for units in _units(z, which).split(max(1, ROWS // len(z))):
        ways = Way.joined([Way.of(build, z, unit.expand_as(z)) for unit in units])
        found = _clipped(quickly(slopes, ways), cut)
        each = [part.reshape(len(units), -1) for part in (found.norms, found.whole, found.along)]
        norms, whole, along = each[0][0], whole + each[1].sum(0), along + each[2].sum(0)
    return Pull(norms, whole, along)


def directions(
    loss: LossFunction,
    network: nn.Module,
    build: Build,
    z: Float[Tensor, " b *d"],
    cut: Cut,
    which: Bool[Tensor, " *d"] | None = None,
) -> Directions:
    """Return all of it for a few rows of few coordinates, of which Jacobians are laid out one after the other.

    Raises:
        UsageError: If a Jacobian is too large for that.
    """
    units, slopes = _units(z, which), RowSlopes(loss, network)
    if len(units) * slopes.size > MOST:
        raise UsageError(
            f"slopes of {slopes.size:,} weights by {len(units):,} coordinates do not fit",
            remedy="Choose fewer coordinates, or probe",
        )
    ways = [Way.of(build, z, unit.expand_as(z)) for unit in units]
    parts = [slopes.all_products(ways, i) for i in range(len(z))]
    squares, mixed, gram = (torch.stack(part) for part in zip(*parts, strict=True))
    lost = ~squares.isfinite()
    squares, mixed = squares.masked_fill(lost, 0.0), mixed.masked_fill(lost[:, None], 0.0)
    gram = gram.masked_fill(lost[:, None, None], 0.0)
    norms, factor, slope = _factors(squares, cut)
    growth = mixed / _some(norms)[:, None]
    more = 2 * factor * slope * norms + (slope * norms) ** 2
    gram = factor[:, None, None] ** 2 * gram + more[:, None, None] * growth[:, :, None] * growth[:, None, :]
    return Directions(factor * norms, gram, (factor + slope * norms)[:, None] * growth)


def _clipped(products: Float[Tensor, "3 b"], cut: Cut) -> Pull:
    """Turn |g|^2, g . dg and |dg|^2 of plain gradients into sizes of clipped ones: d(f g) = f dg + f' (d|g|) g."""
    squares, mixed, changes = products.masked_fill(~products[0].isfinite(), 0.0)
    norms, factor, slope = _factors(squares, cut)
    growth = mixed / _some(norms)
    whole = factor**2 * changes + (2 * factor * slope * norms + (slope * norms) ** 2) * growth**2
    return Pull(factor * norms, whole, ((factor + slope * norms) * growth) ** 2)


def _factors(squares: Float[Tensor, " b"], cut: Cut) -> tuple[Tensor, Tensor, Tensor]:
    """Return lengths of gradients, what these are multiplied with, and how that changes with them."""
    norms = squares.sqrt().requires_grad_()
    with torch.enable_grad():
        factor = cut(norms)
        (slope,) = torch.autograd.grad(factor.sum(), norms)
    return norms.detach(), factor.detach(), slope


def _some(norms: Tensor) -> Tensor:
    return norms.where(norms > 0, torch.ones_like(norms))


def _units(z: Float[Tensor, " b *d"], which: Bool[Tensor, " *d"] | None) -> Float[Tensor, " k *d"]:
    """Return the directions of single coordinates."""
    units = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device).reshape(-1, *z.shape[1:])
    return units if which is None else units[which.flatten()]


KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def kinks(network: nn.Module) -> tuple[str, ...]:
    """Return the layers at which gradients jump: bounds of a network with some are about where it is smooth alone.

    Functions that are called without a layer, such as relu, are not seen.
    """
    return tuple(
        f"{name or 'the network'}, a {type(layer).__name__}"
        for name, layer in network.named_modules()
        if isinstance(layer, (*KINKED, *POOLS))
    )
