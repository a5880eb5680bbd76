"""Rates of the noising chain of a mixture path, run backwards in time.

They have the marginals of the path like those of least energy, and the data given the state are all that a chain along
them remembers: so with an exact posterior the bound on the likelihood has no gap. Source: Shaul et al. 2024,
arXiv 2412.03487, for mixtures; the reversal of a chain is that of Anderson 1982 for diffusions.
"""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from feller.paths.schedules import Scales


def rates(
    p: Float64[Tensor, " K"], scales: Scales, x_1: Int[Tensor, " m"], x_t: Int[Tensor, " m"]
) -> Float[Tensor, "m K"]:
    """Return alpha' / alpha p_t(y) p(x_t) / p_t(x_t) given x_1, 0 to x_t itself.

    Args:
        p: The source.
        scales: Of each row.
        x_1: Data.
        x_t: State.

    Raises:
        ValueError: If the source lacks a symbol.
    """
    _check_mass(p)
    alpha, sigma, d_alpha, _ = (torch.as_tensor(scale, dtype=p.dtype, device=x_t.device)[..., None] for scale in scales)
    p = p.to(x_t.device)
    law = torch.where(x_1[:, None] == torch.arange(len(p), device=x_t.device), alpha + sigma * p, sigma * p)
    outward = d_alpha / alpha * law * p[x_t][:, None] / law.gather(1, x_t[:, None])
    return outward.scatter(1, x_t[:, None], 0.0)


def step_probabilities(
    p: Float64[Tensor, " K"], now: Scales, later: Scales, x_1: Int[Tensor, " m"], x_t: Int[Tensor, " m"]
) -> Float64[Tensor, "m K"]:
    """Return the distribution of x_s given x_t and x_1, for s > t: exact for a step of any length.

    By Bayes' rule it is proportional to p_s(y | x_1) q(x_t | y), where the noising chain from s to t keeps a token with
    probability alpha_t / alpha_s and else draws it from the source.

    Args:
        p: The source.
        now: Scales at t, of each row.
        later: Scales at s, of each row.
        x_1: Data.
        x_t: State.

    Raises:
        ValueError: If the source lacks a symbol.
    """
    _check_mass(p)
    p = p.to(x_t.device)
    symbols = torch.arange(len(p), device=x_t.device)
    alpha, sigma = (torch.as_tensor(scale, dtype=p.dtype, device=x_t.device)[..., None] for scale in later[:2])
    keep = kept(now, later, p)[..., None]
    law = torch.where(x_1[:, None] == symbols, alpha + sigma * p, sigma * p)
    noised = (1 - keep) * p[x_t][:, None] + torch.where(x_t[:, None] == symbols, keep, 0.0)
    joint = law * noised
    return joint / joint.sum(1, keepdim=True)


def kept(now: Scales, later: Scales, like: Tensor) -> Tensor:
    """Return the probability alpha_t / alpha_s that the noising chain keeps a token; 1 where both are 0."""
    early, late = (torch.as_tensor(scales.alpha, dtype=like.dtype, device=like.device) for scales in (now, later))
    return (early / late).nan_to_num(nan=1.0).clamp(max=1)


def mean_rates(
    p: Float64[Tensor, " K"], scales: Scales, posterior: Float[Tensor, "m K"], x_t: Int[Tensor, " m"]
) -> Float[Tensor, "m K"]:
    """Return their mean over the posterior of x_1, without an array of all pairs of symbols.

    Args:
        p: The source.
        scales: Of each row and each x_1, or what broadcasts against them.
        posterior: Probabilities of x_1.
        x_t: State.

    Raises:
        ValueError: If the source lacks a symbol.
    """
    _check_mass(p)
    alpha, sigma, d_alpha, _ = (torch.as_tensor(scale, dtype=p.dtype, device=x_t.device) for scale in scales)
    p = p.to(x_t.device)
    there = p[x_t][:, None]
    stays = x_t[:, None] == torch.arange(len(p), device=x_t.device)
    share = posterior * d_alpha / alpha * there / torch.where(stays, alpha + sigma * there, sigma * there)
    outward = p * (share * sigma).sum(1, keepdim=True) + share * alpha
    return outward.scatter(1, x_t[:, None], 0.0)


def _check_mass(p: Float64[Tensor, " K"]) -> None:
    if (p == 0).any():
        raise ValueError(
            f"the time reversal needs a source with mass on every symbol, symbol {int((p == 0).nonzero()[0])} "
            "has none; use the rates of least energy"
        )
