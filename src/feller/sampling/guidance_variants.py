"""Variants of classifier-free guidance for real-valued predictions, and autoguidance.

Each function returns a network, so that variants combine with any solver. With a weight of 1, each gives the
conditional prediction; with more than 1, samples are sharper. They differ in how they keep samples from being distorted
by large weights. Weights are numbers or tensors [b].
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import Cond, State, append_dims, concatenate, tree_map
from feller.networks.unwrapping import null_values
from feller.paths import Affine, DataPrediction, Network, convert
from feller.sampling.guidance import ALWAYS, cfg_combine, check_interval, drop_conditions, in_interval

Weight = float | Tensor
Combine = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Function of the conditional and the unconditional prediction, the state, and the times [b]."""


def cfg_rescale(
    network: Network,
    w: Weight,
    phi: float = 0.7,
    *,
    droppable: Sequence[str] = ("label",),
    interval: tuple[float, float] = ALWAYS,
    nulls: Mapping[str, int | float] | None = None,
) -> Network:
    """Return a network with guidance whose standard deviation is moved back towards that of the conditional prediction.

    The guided prediction g becomes phi g std(c) / std(g) + (1 - phi) g, with the standard deviations of g and of the
    conditional prediction c over the entries of an example; where one of them is 0, g stays. Source: Lin et al. 2023,
    "Common diffusion noise schedules and sample steps are flawed", arXiv 2305.08891, equations 15 and 16.

    Args:
        network: Network trained with conditions randomly replaced by null values.
        w: Guidance weight.
        phi: Strength of the rescaling, 0 to 1; 0 is `cfg`.
        droppable: Conditions dropped in the unconditional branch.
        interval: Range of times with guidance.
        nulls: Null values; by default the network's own.
    """
    check_number("phi", phi, ge=0, le=1)

    def combine(c: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        guided = cfg_combine(c, u, w)
        spread, goal = _std(guided), _std(c)
        scale = torch.where((spread > 0) & (goal > 0), goal / spread.clamp(min=torch.finfo(c.dtype).tiny), 1.0)
        return guided * append_dims(1 + phi * (scale - 1), guided)

    return _guided(network, combine, droppable, interval, nulls)


def cfg_zero_star(
    network: Network,
    w: Weight,
    zero_until: float = 0.04,
    *,
    droppable: Sequence[str] = ("label",),
    interval: tuple[float, float] = ALWAYS,
    nulls: Mapping[str, int | float] | None = None,
) -> Network:
    """Return a velocity network with CFG-Zero*: an optimal scale of the unconditional velocity, and a start at rest.

    The guided velocity is (1 - w) s u + w c, with the conditional velocity c, the unconditional velocity u, and s = <c,
    u> / |u|^2 per example. Before the time `zero_until` it is 0, unless w is 1. Source: Fan et al. 2025, "CFG-Zero*",
    arXiv 2503.18886, algorithm 1, where the first step is skipped.

    Args:
        network: Network that predicts velocities, trained with conditions randomly replaced by null values.
        w: Guidance weight.
        zero_until: Time until which the velocity is 0; 0 for no rest.
        droppable: Conditions dropped in the unconditional branch.
        interval: Range of times with guidance.
        nulls: Null values; by default the network's own.
    """
    check_number("zero_until", zero_until, ge=0, lt=1)

    def combine(c: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        scale = _dot(c, u) / _dot(u, u).clamp(min=torch.finfo(c.dtype).tiny)
        guided = cfg_combine(c, append_dims(scale, u) * u, w)
        is_at_rest = (t < zero_until) & (torch.as_tensor(w, device=t.device) != 1)
        return torch.where(append_dims(is_at_rest, c), 0.0, guided)

    return _guided(network, combine, droppable, interval, nulls)


def apg(
    network: Network,
    w: Weight,
    path: Affine,
    eta: float = 0.0,
    max_norm: float = 0.0,
    *,
    droppable: Sequence[str] = ("label",),
    interval: tuple[float, float] = ALWAYS,
    nulls: Mapping[str, int | float] | None = None,
) -> Network:
    """Return a network with adaptive projected guidance, which weakens the part that only scales the data prediction.

    The update is the difference of the conditional data prediction and the unconditional one, shortened to the length
    `max_norm`. Its part parallel to the conditional data prediction is multiplied by eta; the update times w - 1 is
    added to the conditional data prediction. The momentum of the source, which depends on the previous steps of a
    solver, is left out. Source: Sadat et al. 2024, "Eliminating oversaturation and artifacts of high guidance scales in
    diffusion models", arXiv 2410.02416, algorithm 1.

    Args:
        network: Network trained with conditions randomly replaced by null values.
        w: Guidance weight.
        path: Path of the model; it gives the schedule and what the network predicts.
        eta: Weight of the parallel part; 1 is `cfg` if the update is not shortened.
        max_norm: Largest length of the update per example; 0 for no limit.
        droppable: Conditions dropped in the unconditional branch.
        interval: Range of times with guidance.
        nulls: Null values; by default the network's own.
    """
    check_kind("path", path, Affine, "feller.Affine()")
    check_number("eta", eta, ge=0)
    check_number("max_norm", max_norm, ge=0)
    kind = path.prediction

    def combine(c: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        scales = path.schedule(t)
        data, unconditional = (convert(value, kind, DataPrediction(), x, scales) for value in (c, u))
        update = data - unconditional
        if max_norm:
            norm = _dot(update, update).sqrt()
            update = update * append_dims((max_norm / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1), c)
        share = _dot(update, data) / _dot(data, data).clamp(min=torch.finfo(data.dtype).tiny)
        update = update - (1 - eta) * append_dims(share, data) * data
        extra = w - 1 if not isinstance(w, Tensor) else append_dims(w - 1, data).to(data.dtype)
        return convert(data + extra * update, DataPrediction(), kind, x, scales)

    return _guided(network, combine, droppable, interval, nulls)


def autoguidance(network: Network, guide: Network, w: Weight, *, interval: tuple[float, float] = ALWAYS) -> Network:
    """Return a network guided by a weaker network of the same data: (1 - w) guide + w network.

    The guide is a smaller or less trained model with the same conditions, path and kind of prediction. Source: Karras
    et al. 2024, "Guiding a diffusion model with a bad version of itself", arXiv 2406.02507, equation 5.

    Args:
        network: Network of the model.
        guide: Network of the weaker model.
        w: Guidance weight; 1 gives the prediction of `network`.
        interval: Range of times with guidance.

    Raises:
        UsageError: While sampling, if the predictions have different shapes.
    """
    check_interval(interval)

    def guided(x_t: State, t: State, cond: Cond) -> State:
        plain = network(x_t, t, cond)
        is_guided = in_interval(t, interval)
        if interval != ALWAYS and not is_guided.any():
            return plain
        weak = guide(x_t, t, cond)

        def combine(strong: Tensor, weak: Tensor) -> Tensor:
            if strong.shape != weak.shape:
                raise UsageError(
                    argument="guide",
                    expected=f"a network of the same data, with predictions of shape {[*strong.shape]}",
                    found=f"{[*weak.shape]}",
                )
            return torch.where(append_dims(is_guided, strong), cfg_combine(strong, weak, w), strong)

        return tree_map(combine, plain, weak)

    guided.null_values = null_values(network)  # pyrefly: ignore[missing-attribute] - read by `cfg`
    return guided


def _guided(
    network: Network,
    combine: Combine,
    droppable: Sequence[str],
    interval: tuple[float, float],
    nulls: Mapping[str, int | float] | None,
) -> Network:
    """Return a network that combines its conditional and unconditional predictions, computed in one batched call."""
    check_interval(interval)
    resolved_nulls = null_values(network) if nulls is None else nulls
    drop_conditions({}, resolved_nulls, droppable)  # fail before the first step

    def guided(x_t: State, t: State, cond: Cond) -> State:
        is_guided = in_interval(t, interval)
        if interval != ALWAYS and not is_guided.any():
            return network(x_t, t, cond)
        dropped = drop_conditions(cond, resolved_nulls, droppable)
        predictions = network(concatenate(x_t, x_t), concatenate(t, t), concatenate(cond, dropped))
        time = t if isinstance(t, dict) else tree_map(lambda leaf: t, x_t)

        def choose(stacked: Tensor, x: Tensor, t: Tensor) -> Tensor:
            conditional, unconditional = stacked.chunk(2)
            return torch.where(
                append_dims(is_guided, conditional), combine(conditional, unconditional, x, t), conditional
            )

        return tree_map(choose, predictions, x_t, time)

    guided.null_values = resolved_nulls  # pyrefly: ignore[missing-attribute] - a function may carry it
    return guided


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner product of each example, [b]."""
    return (x * y).flatten(1).sum(1)


def _std(x: Tensor) -> Tensor:
    """Return the standard deviation of the entries of each example, [b]."""
    return x.flatten(1).std(1, correction=0)
