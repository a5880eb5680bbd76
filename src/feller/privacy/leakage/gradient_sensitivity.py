"""Sensitivity of a row's clipped gradient to the row's values: norms of its Jacobian J, estimated or exact."""

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
"""Maximum number of (row, coordinate) pairs per batch."""
MAX_JACOBIAN_ENTRIES = 2**27
"""Maximum number of entries of a materialised Jacobian."""
ClipFn = Callable[[Tensor], Tensor]
"""Gradient norms [b] -> scale factors [b]: `hard_clip` or `smooth_clip` at a clipping norm."""


@dataclass(frozen=True)
class GradientSensitivity:
    """Norms of each row's clipped gradient, and of its Jacobian J with respect to the row's values.

    A probe is a Jacobian-vector product along a random sign vector v: E |J v|^2 = Tr(J^T J), and J v also gives the
    radial part. Only |g|^2, g . dg and |dg|^2 of the gradient g and its tangent dg are computed; clipping follows by
    the chain rule. Bounds assume a smooth network: gradients of ReLU networks jump, and derivatives miss the jumps.
    Random numbers of an example are assumed known to the attacker, which only tightens the bound. Source: Guo, Karrer,
    Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 5; Hutchinson 1990.
    """

    norms: Float[Tensor, " b"]
    """Norm of the clipped gradient of each row."""
    frobenius_sq: Float[Tensor, " b"]
    """|J|^2, squared Frobenius norm of the Jacobian; an estimate if computed from probes."""
    radial_sq: Float[Tensor, " b"]
    """|g J|^2, the part of |J|^2 along the unit gradient g; an estimate if computed from probes."""

    def fisher_trace(self, rate: float, scale: float) -> Float[Tensor, " b"]:
        """Return the trace of the Fisher information about each row in a noisy sum over a Poisson sample.

        Arguments are those of `subsampled_fisher_trace`.
        """
        return subsampled_fisher_trace(rate, scale, self.norms, self.frobenius_sq, self.radial_sq)


@dataclass(frozen=True)
class DirectionalSensitivity:
    """Norms of each row's clipped gradient, and the matrix J^T J of its Jacobian J with respect to the row's values.

    It gives the full Fisher information matrix; `GradientSensitivity` gives only the trace.
    """

    norms: Float[Tensor, " b"]
    gram: Float[Tensor, "b d d"]
    """Matrix J^T J of each row, with J the Jacobian of the clipped gradient with respect to the row's values."""
    radial_jacobian: Float[Tensor, "b d"]
    """Row vector g J, with g the unit vector of the clipped gradient."""

    def fisher_information(self, rate: float, scale: float) -> Float[Tensor, "b d d"]:
        """Return the Fisher information matrix of each row in a noisy sum over a Poisson sample.

        `rate` is the sampling rate, and `scale` the standard deviation of the noise on each entry of the sum.
        """
        return subsampled_fisher(rate, scale, self.norms, self.gram, self.radial_jacobian)


def rademacher_directions(
    z: Float[Tensor, " b *d"], rng: RandomStream, coordinate_mask: Bool[Tensor, " *d"] | None = None
) -> Float[Tensor, " b *d"]:
    """Sample a Rademacher vector, with entries +1 or -1, for each row of z; entries outside the mask are 0."""
    signs = 2 * rng.bernoulli(0.5, z.shape, z.device).to(z.dtype) - 1
    return signs if coordinate_mask is None else signs * coordinate_mask


def probe_sensitivity(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Float[Tensor, " b *d"],
    clip_fn: ClipFn,
    vectors: Float[Tensor, "..."],
) -> GradientSensitivity:
    """Return an unbiased estimate of the sensitivity from one direction per row, or the mean over several directions.

    A probe costs as much as one to two clipped gradients if all layers are linear, else three to four. The relative
    error of an estimate is about 1, and averages out over many steps.

    Args:
        loss: Function (network, example) -> loss of each example, [b].
        network: Network before the step.
        build: Function from rows to training examples.
        z: Rows.
        clip_fn: Function from gradient norms [b] to the factors [b] by which clipping multiplies the gradients.
        vectors: Rademacher directions in the shape of z, or several along a leading axis.
    """
    directions, row_gradients = vectors if vectors.ndim > z.ndim else vectors[None], RowGradients(loss, network)
    sensitivities = [
        _clipped(fast_products(row_gradients, TangentBatch.from_rows(build, z, v)), clip_fn) for v in directions
    ]
    frobenius_sq = torch.stack([sensitivity.frobenius_sq for sensitivity in sensitivities]).mean(0)
    radial_sq = torch.stack([sensitivity.radial_sq for sensitivity in sensitivities]).mean(0)
    return GradientSensitivity(sensitivities[0].norms, frobenius_sq, radial_sq)


def exact_sensitivity(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Float[Tensor, " b *d"],
    clip_fn: ClipFn,
    coordinate_mask: Bool[Tensor, " *d"] | None = None,
) -> GradientSensitivity:
    """Compute the exact sensitivity, with one probe per coordinate that is True in the mask.

    Other arguments are those of `probe_sensitivity`.
    """
    row_gradients = RowGradients(loss, network)
    frobenius_sq = radial_sq = norms = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    for units in _unit_directions(z, coordinate_mask).split(max(1, ROWS // len(z))):
        tangents = TangentBatch.concatenate([TangentBatch.from_rows(build, z, unit.expand_as(z)) for unit in units])
        sensitivity = _clipped(fast_products(row_gradients, tangents), clip_fn)
        per_unit = [
            values.reshape(len(units), -1)
            for values in (sensitivity.norms, sensitivity.frobenius_sq, sensitivity.radial_sq)
        ]
        norms, frobenius_sq, radial_sq = (
            per_unit[0][0],
            frobenius_sq + per_unit[1].sum(0),
            radial_sq + per_unit[2].sum(0),
        )
    return GradientSensitivity(norms, frobenius_sq, radial_sq)


def directional_sensitivity(
    loss: LossFunction,
    network: nn.Module,
    build: ExampleBuilder,
    z: Float[Tensor, " b *d"],
    clip_fn: ClipFn,
    coordinate_mask: Bool[Tensor, " *d"] | None = None,
) -> DirectionalSensitivity:
    """Compute J^T J and g J exactly, row by row; suited to a few rows with few coordinates.

    J is the Jacobian of the row's clipped gradient with respect to the row's values, and g the unit vector of the
    clipped gradient.

    Arguments are those of `exact_sensitivity`.

    Raises:
        UsageError: If a Jacobian is too large.
    """
    units, row_gradients = _unit_directions(z, coordinate_mask), RowGradients(loss, network)
    if len(units) * row_gradients.size > MAX_JACOBIAN_ENTRIES:
        raise UsageError(
            f"a Jacobian of at most {MAX_JACOBIAN_ENTRIES:,} entries",
            f"{row_gradients.size:,} weights x {len(units):,} coordinates",
            "Choose fewer coordinates, or use `probe_sensitivity`",
        )
    tangents = [TangentBatch.from_rows(build, z, unit.expand_as(z)) for unit in units]
    products = [row_gradients.gram_products(tangents, i) for i in range(len(z))]
    norms_sq, g_dg, gram = (torch.stack(column) for column in zip(*products, strict=True))
    is_invalid = ~norms_sq.isfinite()
    norms_sq, g_dg = norms_sq.masked_fill(is_invalid, 0.0), g_dg.masked_fill(is_invalid[:, None], 0.0)
    gram = gram.masked_fill(is_invalid[:, None, None], 0.0)
    norms, factor, d_factor = _factors(norms_sq, clip_fn)
    d_norms = g_dg / _nonzero(norms)[:, None]
    outer_factor = 2 * factor * d_factor * norms + (d_factor * norms) ** 2
    gram = factor[:, None, None] ** 2 * gram + outer_factor[:, None, None] * d_norms[:, :, None] * d_norms[:, None, :]
    return DirectionalSensitivity(factor * norms, gram, (factor + d_factor * norms)[:, None] * d_norms)


def _clipped(products: Float[Tensor, "3 b"], clip_fn: ClipFn) -> GradientSensitivity:
    """Return the sensitivity of the clipped gradient f(|g|) g to a row, from |g|^2, g . dg and |dg|^2.

    g is the gradient, dg its derivative along a direction in the row's values, and f the clip factor: d(f g) = f dg +
    f' (d|g|) g.
    """
    norms_sq, g_dg, tangents_sq = products.masked_fill(~products[0].isfinite(), 0.0)
    norms, factor, d_factor = _factors(norms_sq, clip_fn)
    d_norms = g_dg / _nonzero(norms)
    frobenius_sq = factor**2 * tangents_sq + (2 * factor * d_factor * norms + (d_factor * norms) ** 2) * d_norms**2
    return GradientSensitivity(factor * norms, frobenius_sq, ((factor + d_factor * norms) * d_norms) ** 2)


def _factors(norms_sq: Float[Tensor, " b"], clip_fn: ClipFn) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient norms, and `clip_fn` and its derivative at these norms."""
    norms = norms_sq.sqrt().requires_grad_()
    with torch.enable_grad():
        factor = clip_fn(norms)
        (d_factor,) = torch.autograd.grad(factor.sum(), norms)
    return norms.detach(), factor.detach(), d_factor


def _nonzero(norms: Tensor) -> Tensor:
    return norms.where(norms > 0, torch.ones_like(norms))


def _unit_directions(z: Float[Tensor, " b *d"], coordinate_mask: Bool[Tensor, " *d"] | None) -> Float[Tensor, " k *d"]:
    units = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device).reshape(-1, *z.shape[1:])
    return units if coordinate_mask is None else units[coordinate_mask.flatten()]


KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def nonsmooth_layers(network: nn.Module) -> tuple[str, ...]:
    """Return the name and type of each layer that is not smooth, such as "fc1, a ReLU".

    Fisher bounds hold only where the network is differentiable.

    Functional calls such as `F.relu` are not detected.
    """
    return tuple(
        f"{name or 'the network'}, a {type(layer).__name__}"
        for name, layer in network.named_modules()
        if isinstance(layer, (*KINKED, *POOLS))
    )
