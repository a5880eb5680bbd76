"""Functions from network to network that sharpen what a condition asks for.

One convention everywhere: w = 1 is the plain conditional, w = 0 the unconditional.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, append_dims, concatenate, leaves, tree_map
from feller.networks.unwrapping import null_values
from feller.paths import Network
from feller.paths.schedules import Schedule


def drop_conditions(cond: Cond, null_values: Mapping[str, int | float], droppable: Sequence[str]) -> Cond:
    """Replace conditions by the value that the network knows as "not given"."""
    unknown = [name for name in droppable if name not in null_values]
    if unknown:
        raise UsageError(
            argument="nulls",
            expected=f"a null value of {', '.join(unknown)}, which guidance leaves out",
            found=f"those of {', '.join(sorted(null_values)) or 'none'}",
            remedy="Give cfg nulls={...} as in training, or name in absent what the network can do without",
        )
    return {
        name: torch.full_like(value, null_values[name]) if name in droppable else value for name, value in cond.items()
    }


def cfg_combine(conditional: Tensor, unconditional: Tensor, w: float | Tensor) -> Tensor:
    """Return (1 - w) without + w plain, for one weight or one per example; equal numbers stay, also infinite ones."""
    if isinstance(w, Tensor):
        w = append_dims(w, conditional).to(conditional.dtype)
    elif w == 0:
        return unconditional  # 0 times -inf is no number
    return torch.where(conditional == unconditional, conditional, torch.lerp(unconditional, conditional, w))


def cfg(
    network: Network,
    w: float | Tensor,
    *,
    droppable: Sequence[str] = ("label",),
    interval: tuple[float, float] = (0.0, 1.0),
    nulls: Mapping[str, int | float] | None = None,
) -> Network:
    """Classifier-free guidance: (1 - w) prediction without + w prediction with the conditions.

    Both branches go through the network in one batched call. The law that this samples for w other than 0 and 1 is
    not the tilted law; no closed form of it is known. Source: Ho and Salimans 2022, arXiv 2207.12598.

    Args:
        network: Was trained with some conditions replaced by their null value.
        w: 1 is the plain conditional, 0 the unconditional, more than 1 sharpens; others write w - 1. One for
            all, or one per example, [b].
        droppable: Conditions that the second branch lacks.
        interval: Guide at times in [first, last]; outside, the plain conditional costs one branch.
        nulls: Null values, such as those of an objective, `objective.null`; by default the network's own.

    Raises:
        UsageError: If the network cannot do without one of them.
        UsageError: While sampling, if w is neither one number nor one per example.
    """
    if not isinstance(w, Tensor) and w == 1.0:
        return network
    nothing = null_values(network) if nulls is None else nulls
    drop_conditions({}, nothing, droppable)  # refuse before the first step, not in it

    is_always_guided = interval == (0.0, 1.0)

    def guided(x_t: State, t: State, cond: Cond) -> State:
        earliest = functools.reduce(torch.minimum, leaves(t))  # a leaf that is given is at t = 1 all along
        n = earliest.shape[0]
        if isinstance(w, Tensor) and w.shape not in ((), (n,)):
            raise UsageError(f"w is one number, or one for each of the {n} examples, [{n}]", found=list(w.shape))
        inside = (earliest >= interval[0]) & (earliest <= interval[1])
        if not is_always_guided and not inside.any():
            return network(x_t, t, cond)
        both = network(
            concatenate(x_t, x_t), concatenate(t, t), concatenate(cond, drop_conditions(cond, nothing, droppable))
        )
        weight = w if is_always_guided else torch.where(inside, w, torch.ones_like(earliest))
        return tree_map(lambda branches: cfg_combine(branches[:n], branches[n:], weight), both)

    guided.null_values = nothing  # pyrefly: ignore[missing-attribute] - a function may carry it
    return guided


def classifier_guidance(
    network: Network, log_likelihood: Callable[[Tensor, Tensor], Tensor], w: float, schedule: Schedule
) -> Network:
    """Add w sigma W / alpha times the gradient of log p(y | x_t) to a velocity; exact at w = 1.

    Args:
        network: Predicts the velocity of an affine path with a normal source.
        log_likelihood: (x_t, t) -> log p(y | x_t, t), [b], differentiable in x_t.
        w: Strength; 0 leaves the network as it is.
        schedule: Of the path. With alpha_0 = 0 the weight is infinite at t = 0, where it is capped at 1e3.
    """

    def guided(x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        create_graph = (
            torch.is_grad_enabled() and x_t.requires_grad
        )  # a likelihood differentiates what is returned here
        with torch.enable_grad():
            x = x_t if create_graph else x_t.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_likelihood(x, t).sum(), x, create_graph=create_graph)
        weight = schedule(t).score_coefficient.clamp(max=1e3)
        return network(x_t, t, cond) + w * append_dims(weight, x_t) * gradient

    guided.null_values = null_values(network)  # pyrefly: ignore[missing-attribute] - `cfg` looks for them
    return guided


def token_classifier_guidance(
    network: Network, log_likelihood: Callable[[Tensor, Tensor], Tensor], w: float, *, chunk_size: int = 4096
) -> Network:
    """Add w log p(y | x_t with one token replaced by a) to the logit of each symbol a of each token.

    At w = 1 this gives the law under the condition where a token that is revealed stays, as with a mask. Elsewhere it
    does not, in however many steps: a symbol that is there now need not be that of the data. It asks the likelihood
    about every replacement, tokens times symbols of them for each state. Source: Nisonoff et al. 2024, "Unlocking
    guidance for discrete state-space diffusion and flow models", arXiv 2406.01572.

    Args:
        network: Answers with logits of tokens, [b, ..., K].
        log_likelihood: (x_t, t) -> log p(y | x_t, t), [b].
        w: Strength; 0 leaves the network as it is.
        chunk_size: States that the likelihood is asked about together.
    """

    def guided(x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        logits = network(x_t, t, cond)
        if w == 0:
            return logits
        flat, count = x_t.flatten(1), logits.shape[-1]
        b, n = flat.shape
        scores = []
        for which in torch.arange(b * n * count, device=x_t.device).split(chunk_size):
            example, place, symbol = which // (n * count), which // count % n, which % count
            changed = flat[example].scatter(1, place[:, None], symbol[:, None])
            scores.append(log_likelihood(changed.view(len(which), *x_t.shape[1:]), t[example]))
        return logits + w * torch.cat(scores).view(logits.shape).to(logits.dtype)

    guided.null_values = null_values(network)  # pyrefly: ignore[missing-attribute] - `cfg` looks for them
    return guided
