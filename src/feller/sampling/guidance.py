"""Guidance: wrappers of networks that strengthen the effect of conditions (classifier-free, classifier guidance).

Guidance weight w = 1 gives the conditional prediction, and w = 0 the unconditional prediction.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import Cond, State, append_dims, concatenate, leaves, tree_map
from feller.networks.unwrapping import null_values
from feller.paths import Network
from feller.paths.schedules import Schedule


def drop_conditions(cond: Cond, null_values: Mapping[str, int | float], droppable: Sequence[str]) -> Cond:
    """Replace the conditions named in `droppable` by their null values, which stand for an absent condition.

    `null_values` maps the name of a condition to its null value.
    """
    unknown = [name for name in droppable if name not in null_values]
    if unknown:
        raise UsageError(
            argument="nulls",
            expected=f"a null value of {', '.join(unknown)}, for the unconditional branch of guidance",
            found=f"null values of {', '.join(sorted(null_values)) or 'no condition'}",
            remedy="Pass nulls={...} to cfg as in training, or list only droppable conditions in `droppable`",
        )
    return {
        name: torch.full_like(value, null_values[name]) if name in droppable else value for name, value in cond.items()
    }


def cfg_combine(conditional: Tensor, unconditional: Tensor, w: float | Tensor) -> Tensor:
    """Return (1 - w) unconditional + w conditional, for a number w or one w per example, [b].

    Entries that are equal in both predictions are kept, even if they are infinite.
    """
    if isinstance(w, Tensor):
        w = append_dims(w, conditional).to(conditional.dtype)
        branch = torch.where(w == 0, unconditional, conditional)
        is_branch = (w == 0) | (w == 1) | (conditional == unconditional)  # 0 times -inf is NaN
        return torch.where(is_branch, branch, torch.lerp(unconditional, conditional, w))
    if w in (0, 1):
        return conditional if w else unconditional
    return torch.where(conditional == unconditional, conditional, torch.lerp(unconditional, conditional, w))


ALWAYS = (0.0, 1.0)
"""Interval of times that contains all times."""
GuidanceWeight = float | Tensor | Mapping[str, float]
"""Guidance weight: one number, one number per example, [b], or one number per condition, by name."""


def cfg(
    network: Network,
    w: GuidanceWeight,
    *,
    droppable: Sequence[str] = ("label",),
    interval: tuple[float, float] = ALWAYS,
    nulls: Mapping[str, int | float] | None = None,
) -> Network:
    """Return a network with classifier-free guidance: (1 - w) unconditional + w conditional prediction.

    All branches share one batched network call. For w other than 0 and 1, samples do not follow the distribution
    tilted by the condition's likelihood to the power w. Source: Ho and Salimans 2022, arXiv 2207.12598.

    With one weight w_k for each of the conditions c_1, c_2, ..., in this order, the guided prediction is
    e() + sum_k w_k (e(c_1, ..., c_k) - e(c_1, ..., c_(k-1))), where e is the prediction given these conditions and all
    conditions without a weight. Weights of 1 give the conditional prediction. Source: Brooks et al. 2023,
    "InstructPix2Pix", arXiv 2211.09800, equation 3.

    Args:
        network: Network trained with conditions randomly replaced by null values.
        w: Guidance weight, a number or [b]: 1 gives the conditional prediction, 0 the unconditional prediction; more
            than 1 sharpens. Some papers call w - 1 the weight. Or a dict from droppable conditions to their weights.
        droppable: Conditions dropped in the unconditional branch.
        interval: Range of times with guidance; at other times, only the conditional branch is computed.
        nulls: Null values, such as `objective.null`; by default the network's own.

    Raises:
        UsageError: If a droppable condition has no null value, a weight belongs to no droppable condition, or, while
            sampling, w has the wrong shape.
    """
    steps = _guidance_steps(w, droppable)
    for _, weight in steps:
        if not isinstance(weight, Tensor):
            check_kind("w", weight, Real, "3.0")
            check_number("w", weight, lt=math.inf, gt=-math.inf)
    check_interval(interval)
    if all(not isinstance(weight, Tensor) and weight == 1.0 for _, weight in steps):
        return network
    resolved_nulls = null_values(network) if nulls is None else nulls
    drop_conditions({}, resolved_nulls, droppable)  # fail before the first step

    is_always_guided = interval == ALWAYS

    def guided(x_t: State, t: State, cond: Cond) -> State:
        is_guided = in_interval(t, interval)
        n = is_guided.shape[0]  # not len(), which an export would keep as a constant
        if isinstance(w, Tensor) and w.shape not in ((), (n,)):
            raise UsageError(
                f"a guidance weight w that is a number, or a tensor of shape [{n}] for {n} examples", list(w.shape)
            )
        if not is_always_guided and not is_guided.any():
            return network(x_t, t, cond)
        branches = [cond, *(drop_conditions(cond, resolved_nulls, dropped) for dropped, _ in reversed(steps))]
        predictions = network(
            concatenate(*[x_t] * len(branches)), concatenate(*[t] * len(branches)), concatenate(*branches)
        )
        weights = [
            weight if is_always_guided else torch.where(is_guided, weight, torch.ones_like(next(leaves(t))))
            for _, weight in steps
        ]

        def combine(stacked: Tensor) -> Tensor:
            chunks = stacked.unflatten(0, (len(branches), n)).unbind()[::-1]  # from unconditional to conditional
            result = cfg_combine(chunks[1], chunks[0], weights[0])
            for less, more, weight in zip(chunks[1:-1], chunks[2:], weights[1:], strict=True):
                result = result + torch.where(more == less, 0.0, cfg_combine(more, less, weight) - less)
            return result

        return tree_map(combine, predictions)

    guided.null_values = resolved_nulls  # pyrefly: ignore[missing-attribute] - a function may carry it
    return guided


def check_interval(interval: tuple[float, float], argument: str = "interval") -> None:
    """Raise a UsageError, with the name of the argument, if an interval of times is not within [0, 1]."""
    check_number(argument, interval[0], ge=0, le=interval[1])
    check_number(argument, interval[1], le=1)


def in_interval(t: State, interval: tuple[float, float]) -> Tensor:
    """Return True for the examples whose time is inside an interval, [b]; observed leaves stay at t = 1."""
    earliest = functools.reduce(torch.minimum, leaves(t))
    return (earliest >= interval[0]) & (earliest <= interval[1])


def _guidance_steps(w: GuidanceWeight, droppable: Sequence[str]) -> list[tuple[tuple[str, ...], float | Tensor]]:
    """Return for each step of guidance the conditions that are dropped before it, and its weight.

    Each condition with a weight is added in one step; neighbouring conditions of equal weight share a step, because
    their terms telescope.
    """
    if not isinstance(w, Mapping):
        return [(tuple(droppable), w)]
    names = [*w]
    for name in names:
        if name not in droppable:
            raise UsageError.unknown_name("guidance", name, droppable)
    return [(tuple(names[k:]), w[name]) for k, name in enumerate(names) if not k or w[name] != w[names[k - 1]]]


def classifier_guidance(
    network: Network, log_likelihood: Callable[[Tensor, Tensor], Tensor], w: float, schedule: Schedule
) -> Network:
    """Return a network whose velocity is changed by classifier guidance, which is exact at w = 1.

    The guided velocity is velocity + w (sigma W / alpha) grad log p(y | x_t). The path is x_t = alpha x_1 + sigma x_0,
    and W = alpha' sigma - alpha sigma' is the Wronskian of its schedule. The coefficient sigma W / alpha is capped at
    1e3, because it is infinite at t = 0 if alpha_0 = 0.

    Args:
        network: Network that predicts the velocity of an affine path with a normal source.
        log_likelihood: (x_t, t) -> log p(y | x_t, t), [b], differentiable in x_t; y is the desired condition.
        w: Guidance weight; 0 leaves the network unchanged.
        schedule: Schedule of the path: its alpha and sigma as functions of t.
    """
    check_number("w", w, lt=math.inf, gt=-math.inf)

    def guided(x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        create_graph = torch.is_grad_enabled() and x_t.requires_grad  # for likelihoods, which differentiate the result
        with torch.enable_grad():
            x = x_t if create_graph else x_t.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_likelihood(x, t).sum(), x, create_graph=create_graph)
        weight = schedule(t).score_coefficient.clamp(max=1e3)
        return network(x_t, t, cond) + w * append_dims(weight, x_t) * gradient

    guided.null_values = null_values(network)  # pyrefly: ignore[missing-attribute] - read by `cfg`
    return guided


def token_classifier_guidance(
    network: Network, log_likelihood: Callable[[Tensor, Tensor], Tensor], w: float, *, chunk_size: int = 4096
) -> Network:
    """Return a network with classifier guidance of token logits.

    w log p(y | x_t with one token replaced by a) is added to the logit of each token a. At w = 1, samples follow the
    conditional distribution if unmasked tokens never change, as with a mask source. With other sources, samples are
    biased for any number of steps, because current tokens may differ from the data. The likelihood is evaluated for
    every possible replacement: (number of positions) x (vocabulary size) times per state. Source: Nisonoff et al. 2024,
    "Unlocking guidance for discrete state-space diffusion and flow models", arXiv 2406.01572.

    Args:
        network: Network that predicts logits of tokens, [b, ..., K].
        log_likelihood: (x_t, t) -> log p(y | x_t, t), [b]; y is the desired condition.
        w: Guidance weight; 0 leaves the network unchanged.
        chunk_size: Number of states per call of the likelihood.
    """

    def guided(x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        logits = network(x_t, t, cond)
        if w == 0:
            return logits
        flat_tokens, vocab_size = x_t.flatten(1), logits.shape[-1]
        b, n = flat_tokens.shape
        scores = []
        for indices in torch.arange(b * n * vocab_size, device=x_t.device).split(chunk_size):
            example, position, token = indices // (n * vocab_size), indices // vocab_size % n, indices % vocab_size
            changed = flat_tokens[example].scatter(1, position[:, None], token[:, None])
            scores.append(log_likelihood(changed.view(len(indices), *x_t.shape[1:]), t[example]))
        return logits + w * torch.cat(scores).view(logits.shape).to(logits.dtype)

    guided.null_values = null_values(network)  # pyrefly: ignore[missing-attribute] - read by `cfg`
    return guided
